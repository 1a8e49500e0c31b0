"""Log likelihoods of requests in batches of equal width, each computed once and kept."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mdlm_jax.data import Example
from mdlm_jax.evaluation.greedy import greedy_nats
from mdlm_jax.harness.answers import Answers, key_of
from mdlm_jax.harness.reader import Reader, shapes
from mdlm_jax.harness.requests import Scored
from mdlm_jax.objectives.predictions import predicts_next
from mdlm_jax.runs.answer_nats import Asked, answer_nats, described
from mdlm_jax.runs.restore import Run


class Scorer(NamedTuple):
    """A network with how it scores, and where its answers are kept."""

    run: Run
    reader: Reader
    digest: str  # of the weights
    answers: Answers
    asked: Asked  # the likelihood
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
        requests: What to score. Each is read when its batch comes, and not held.
    """
    keys: list[str] = []
    places: dict[str, int] = {}  # of each distinct request
    widths: dict[int, list[str]] = {}
    for place, request in enumerate(requests):
        keys.append(_key(scorer, request))
        if keys[-1] not in places:
            places[keys[-1]] = place
            widths.setdefault(shapes(scorer.reader, scorer.run, sum(map(len, request))), []).append(keys[-1])
    for width, members in sorted(widths.items()):
        for start in range(0, len(members), scorer.batch_size):
            batch = members[start : start + scorer.batch_size]
            if any(key not in scorer.answers for key in batch):
                found = _batch(scorer, [requests[places[key]] for key in batch], width)
                scorer.answers.add({key: score._asdict() for key, score in zip(batch, found, strict=True)})
    return [Score(**scorer.answers[key]) for key in keys]


def is_greedy_known(scorer: Scorer) -> bool:
    """Whether answers are scored from left to right by the chain rule, which shows what greedy decoding would give."""
    objective = scorer.run.objective
    return objective.bound == "exact" and predicts_next(objective) and scorer.asked.guidance is None


def _key(scorer: Scorer, request: Scored) -> str:
    """What the score of a request depends on: its tokens, the weights, and how it is computed."""
    run, said = scorer.run, described(scorer.run, scorer.asked)
    how = "exact" if is_greedy_known(scorer) else f"{said['estimator']}, {said['draws']} draws"
    more = [str(value) for value in (scorer.asked.likelihood, scorer.asked.guidance) if value is not None]
    return key_of("score", scorer.digest, run.config.objective.name, how, *more, scorer.reader.most, *request)


def _batch(scorer: Scorer, requests: list[Scored], width: int) -> list[Score]:
    run, known = scorer.run, is_greedy_known(scorer)
    # a last batch is filled up, so that no program is compiled for it alone
    filled = requests + requests[-1:] * (scorer.batch_size - len(requests) if known else 0)
    rows = _rows(filled, width)
    if known:
        parts: tuple[Any, ...] = (run.model, run.objective, run.params, run.objective_params)
        found = greedy_nats(*parts, rows, run.config.train.loss_chunk)
        return [
            Score(float(nats), 0.0, len(request.answer), 1, bool(greedy))
            for request, nats, greedy in zip(requests, found.nats, found.greedy, strict=False)
        ]
    found, draws = answer_nats(run, rows, scorer.asked, scorer.batch_size), described(run, scorer.asked)["draws"]
    return [
        Score(float(nats), float(error), len(request.answer), draws, None)
        for request, nats, error in zip(requests, found.nats, found.standard_error, strict=True)
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
