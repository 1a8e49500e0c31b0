"""Log likelihoods of requests in batches of equal width, each computed once and kept."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mdlm_jax.data import Example
from mdlm_jax.evaluation.greedy import greedy_nats
from mdlm_jax.evaluation.pairs import pair_nats
from mdlm_jax.harness.answers import Answers, key_of
from mdlm_jax.harness.reader import Reader, shapes
from mdlm_jax.harness.requests import Scored
from mdlm_jax.objectives.predictions import predicts_next
from mdlm_jax.runs.restore import Run

KEYS = 2**31  # of noise


class Scorer(NamedTuple):
    """A network with how it scores, and where its answers are kept."""

    run: Run
    reader: Reader
    digest: str  # of the weights
    answers: Answers
    draws: int  # views of each answer; even
    batch_size: int  # views computed at once


class Score(NamedTuple):
    """-log p(answer | given), or its upper bound."""

    nats: float
    standard_error: float  # of the noise; 0 where exact
    tokens: int  # of the answer
    draws: int  # views whose mean the nats are
    greedy: bool | None  # whether every token is the likeliest one; None where a bound does not tell


def scores(scorer: Scorer, requests: Sequence[Scored]) -> list[Score]:
    """The score of each request. Equal requests are scored once.

    Batches consist of all requests, answered or not, and one that lacks an answer is computed whole: a run that was
    killed has the batches, and so the numbers, of one that was not.

    Args:
        scorer: The network.
        requests: What to score.
    """
    keys = [_key(scorer, request) for request in requests]
    distinct = dict(zip(keys, requests, strict=True))
    widths: dict[int, list[str]] = {}
    for key, request in distinct.items():
        widths.setdefault(shapes(scorer.reader, scorer.run, sum(map(len, request))), []).append(key)
    for width, members in sorted(widths.items()):
        for start in range(0, len(members), scorer.batch_size):
            batch = members[start : start + scorer.batch_size]
            if any(key not in scorer.answers.known for key in batch):
                found = _batch(scorer, [distinct[key] for key in batch], width)
                scorer.answers.add({key: score._asdict() for key, score in zip(batch, found, strict=True)})
    return [Score(**scorer.answers.known[key]) for key in keys]


def is_exact(run: Run) -> bool:
    """Whether the run scores from left to right by the chain rule."""
    return run.objective.bound == "exact" and predicts_next(run.objective)


def _key(scorer: Scorer, request: Scored) -> str:
    """What the score of a request depends on: its tokens, the weights, and the noise where there is any."""
    run = scorer.run
    reported = run.objective.evaluate or run.objective
    how = "exact" if is_exact(run) else f"{reported.estimator}, {scorer.draws} draws"
    return key_of("score", scorer.digest, run.config.objective.name, how, scorer.reader.most, *request)


def _batch(scorer: Scorer, requests: list[Scored], width: int) -> list[Score]:
    run, exact = scorer.run, is_exact(scorer.run)
    # a last batch is filled up, so that no program is compiled for it alone
    filled = requests + requests[-1:] * (scorer.batch_size - len(requests) if exact else 0)
    rows, chunk = _rows(filled, width), run.config.train.loss_chunk
    parts: tuple[Any, ...] = (run.model, run.objective, run.params, run.objective_params, rows)
    if exact:
        found = greedy_nats(*parts, chunk)
        return [
            Score(float(nats), 0.0, len(request.answer), 1, bool(greedy))
            for request, nats, greedy in zip(requests, found.nats, found.greedy, strict=False)
        ]
    noise = np.array([int(key_of(*request), 16) % KEYS for request in requests])
    bounds = pair_nats(*parts, draws=scorer.draws, batch_size=scorer.batch_size, chunk=chunk, keys=noise)
    return [
        Score(float(nats), float(error), len(request.answer), scorer.draws, None)
        for request, nats, error in zip(requests, bounds.nats, bounds.standard_error, strict=True)
    ]


def _rows(requests: list[Scored], width: int) -> Example:
    """One row a request: what is given, the answer, and padding."""
    rows = Example(*(np.zeros((len(requests), width), kind) for kind in (np.int32, np.int32, bool)))
    for index, (given, answer) in enumerate(requests):
        end = len(given) + len(answer)
        rows.tokens[index, :end] = given + answer
        rows.segments[index, :end] = 1
        rows.prompt_mask[index, : len(given)] = True
    return rows
