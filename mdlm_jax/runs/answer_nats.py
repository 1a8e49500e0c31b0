"""Nats of answers given their prompts under a run, by the likelihood that a user asks for."""

import hashlib
import json
import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.evaluation.likelihood import NUMBERS
from mdlm_jax.evaluation.pairs import PairNats, pair_nats
from mdlm_jax.objectives.base import cross_entropy, loss_mask
from mdlm_jax.runs.likelihoods import LIKELIHOODS, ORDERS, chosen_likelihood, how_tight, tight_nats
from mdlm_jax.runs.restore import Run

DRAWS = 128  # views of each answer, as LLaDA (arXiv 2502.09992) evaluates


class Asked(NamedTuple):
    """The likelihood that is asked for."""

    likelihood: str | None  # a key of LIKELIHOODS; None for what the objective reports
    draws: int  # views of each answer, where the objective reports a bound; even
    orders: int  # of each answer, where the likelihood is `orders`
    guidance: float | None  # weight of classifier-free guidance by the prompt


def asked_of(
    run: Run,
    *,
    likelihood: str | None = None,
    draws: int | None = None,
    orders: int | None = None,
    guidance: float | None = None,
) -> Asked:
    """The likelihood that options ask for.

    Args:
        run: The run.
        likelihood: A key of LIKELIHOODS; None or elbo for what the objective reports.
        draws: Views of each answer, an even number; None for 128. An exact objective needs no more than one.
        orders: Of the likelihood `orders`: random orders of each answer; None for 64.
        guidance: Weight of classifier-free guidance by the prompt; None for none.

    Raises:
        UserError: The run has no such likelihood, or a number does not fit it.
    """
    if draws is not None and (draws < 2 or draws % 2):
        raise UserError(f"--draws={draws} for each answer; accepted: an even number, two draws in each stratum")
    name = chosen_likelihood(run, likelihood, draws, orders)
    if guidance is not None:
        _check_guidance(run, guidance)
    return Asked(name, DRAWS if draws is None else draws, ORDERS if orders is None else orders, guidance)


def _check_guidance(run: Run, guidance: float) -> None:
    """Guidance needs logits, and a network that can read masks or start symbols instead of the prompt."""
    config = run.config
    if not math.isfinite(guidance):
        raise UserError(f"--guidance={guidance}; accepted: a finite number")
    if (run.objective.evaluate or run.objective).token_loss is not cross_entropy:
        name = config.objective.name
        raise UserError(f"--guidance={guidance}: {name} is not reported by a cross-entropy; accepted: no guidance")
    if config.objective.name == "ar" and config.data.extra_token:
        raise UserError(
            f"--guidance={guidance}: the network cannot read a row without its prompt; accepted: no guidance"
        )


def answer_nats(run: Run, rows: Example, asked: Asked, batch_size: int) -> PairNats:
    """Nats of the answer of each row, given the tokens in its prompt mask.

    The noise of an answer depends on its tokens and those of its prompt alone, so the other rows change nothing.

    Args:
        run: The run.
        rows: Examples [N, L]: prompt and answer in segment 1, padding in segment 0.
        asked: What is asked for.
        batch_size: Views computed at once.
    """
    keys = noise_keys(rows)
    if asked.likelihood is None:
        return pair_nats(
            run.model,
            run.objective,
            run.params,
            run.objective_params,
            rows,
            draws=asked.draws,
            batch_size=batch_size,
            chunk=run.config.train.loss_chunk,
            guidance=asked.guidance,
            keys=keys,
        )
    found = tight_nats(
        run, rows, asked.likelihood, asked.orders, batch_size=batch_size, guidance=asked.guidance, keys=keys
    )
    return PairNats(found.nats, found.standard_error, np.asarray(loss_mask(rows)).sum(axis=1))


def described(run: Run, asked: Asked) -> dict[str, Any]:
    """What is said of the numbers: estimator, bound, draws and guidance."""
    if asked.likelihood is not None:
        said = {"likelihood_of": LIKELIHOODS[asked.likelihood], **how_tight(asked.likelihood, asked.orders)}
    else:
        reported = run.objective.evaluate or run.objective
        draws = 1 if reported.bound == "exact" else asked.draws
        said = {"estimator": reported.estimator, "bound": reported.bound, "draws": draws}
    return said | {"guidance": asked.guidance}


def noise_keys(rows: Example) -> Int[np.ndarray, "N"]:
    """A number of each row's noise, from the tokens of its prompt and its answer."""
    scored = np.asarray(loss_mask(rows))
    tokens, given = np.asarray(rows.tokens), np.asarray(rows.prompt_mask & (rows.segments > 0))
    parts = [
        (row[prompt].tolist(), row[answer].tolist()) for row, prompt, answer in zip(tokens, given, scored, strict=True)
    ]
    digests = [hashlib.sha256(json.dumps(part).encode()).hexdigest() for part in parts]
    return np.array([int(digest[:32], 16) % NUMBERS for digest in digests])
