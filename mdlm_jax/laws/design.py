"""The compute multiplier of two fitted surfaces, and the next runs that narrow its interval most per FLOP.

Along the optimum of L(N, D) at C = 6 N D the loss is L*(C) = E + K C^-gamma, so the compute that reaches a loss is in
closed form. To first order the variance of ln multiplier is g' S g, with its slope g by the coordinates of a law and
their covariance S, which a further run lowers by Sherman and Morrison's formula: sequential c-optimal design (Chaloner
and Larntz 1989). Chinchilla's law only.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import stdtrit

from mdlm_jax.laws.parametric import CHINCHILLA, Runs
from mdlm_jax.laws.refusal import Refusal
from mdlm_jax.laws.surface import Fit

LOSSES = 9  # at which the multiplier is taken
STEP = 1e-20  # of the complex-step derivative, which is exact for any small step


class Candidates(NamedTuple):
    """Runs that could be trained next."""

    objective: Int[np.ndarray, "candidates"]  # 0: the reference, 1: the other
    parameters: Float[np.ndarray, "candidates"]
    tokens: Float[np.ndarray, "candidates"]
    cost: Float[np.ndarray, "candidates"]  # FLOPs, or any other unit that the budget has


class SurfaceMultiplier(NamedTuple):
    """Compute of the other objective over that of the reference: geometric mean over the losses that both reach."""

    mean: float
    low: float  # 95% interval, to first order
    high: float
    losses: tuple[float, float]


class Proposal(NamedTuple):
    """The runs to train next, and what they should do to the multiplier."""

    chosen: Int[np.ndarray, "chosen"]  # indices of candidates, in the order of choice; a repeated one is another seed
    now: SurfaceMultiplier
    width_now: float  # of the interval of ln multiplier
    width_then: float  # the same, expected after these runs


def log_compute(coordinates: np.ndarray, loss: Float[np.ndarray, "losses"]) -> np.ndarray:
    """ln C at which the optimal allocation of Chinchilla's law reaches each loss, C = 6 N D; NaN below E.

    Args:
        coordinates: The logarithms of E, A and B, then alpha and beta; complex too, for derivatives.
        loss: Nats per token.
    """
    log_e, log_a, log_b, alpha, beta = coordinates
    balance = (np.log(alpha / beta) + log_a - log_b) / (alpha + beta)  # ln N* at C = 6, where N D = 1
    log_k = np.log(np.exp(log_a - alpha * balance) + np.exp(log_b + beta * balance))
    gap = loss - np.exp(log_e)
    gap = np.where(gap.real > 0, gap, np.nan)
    return np.log(6) + (log_k - np.log(gap)) * (alpha + beta) / (alpha * beta)


def common_losses(fits: Sequence[Fit]) -> Float[np.ndarray, "losses"] | Refusal:
    """Losses that both surfaces reach within the compute of their runs, refused if there are none."""
    ranges = []
    for fitted in fits:
        compute = np.log(6 * fitted.inputs.parameters * fitted.inputs.tokens)
        grid = np.exp(fitted.coordinates[0]) + np.geomspace(1e-6, 1e3, 4000)
        reached = log_compute(fitted.coordinates, grid)
        ranges.append(np.interp([compute.max(), compute.min()], reached[::-1], grid[::-1]))
    bottom, top = max(low for low, _ in ranges), min(high for _, high in ranges)
    if bottom >= top:
        told = [f"{low:.3f} to {high:.3f}" for low, high in ranges]
        return Refusal(f"the losses do not overlap: {told[0]} nats for the reference, {told[1]} for the other")
    return np.linspace(bottom, top, LOSSES)


def slope_of_mean(coordinates: Float[np.ndarray, "5"], loss: Float[np.ndarray, "losses"]) -> Float[np.ndarray, "5"]:
    """The derivative of the mean of `log_compute` over the losses by each coordinate."""
    shifted = coordinates + 1j * STEP * np.eye(5)
    return np.array([log_compute(row, loss).mean().imag / STEP for row in shifted])


def effects_on_loss(coordinates: Float[np.ndarray, "5"], runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """ln loss of each run under Chinchilla's law, and its derivative by each coordinate, [runs, 5].

    `slopes` gives the same of any law, and compiles for every number of runs.
    """
    log_e, log_a, log_b, alpha, beta = coordinates
    log_n, log_d = np.log(runs.parameters), np.log(runs.tokens)
    terms = np.stack([np.full_like(log_n, log_e), log_a - alpha * log_n, log_b - beta * log_d], axis=1)
    log_loss = np.logaddexp.reduce(terms, axis=1)
    shares = np.exp(terms - log_loss[:, None])
    return log_loss, np.column_stack([shares, -shares[:, 1] * log_n, -shares[:, 2] * log_d])


class _Design(NamedTuple):
    """What is known of one objective's law."""

    slope: np.ndarray  # of ln multiplier
    spread: np.ndarray  # covariance of the coordinates over the variance of a run
    variance: float  # of the ln loss of a run
    degrees: int  # of freedom of the variance


def _design(fitted: Fit, loss: np.ndarray) -> _Design:
    log_loss, effects = effects_on_loss(fitted.coordinates, fitted.inputs)
    degrees = len(log_loss) - len(fitted.coordinates)
    variance = float(np.sum((np.log(fitted.loss) - log_loss) ** 2) / degrees)
    spread = np.linalg.pinv(effects.T @ effects)
    return _Design(slope_of_mean(fitted.coordinates, loss), spread, variance, degrees)


def _variance(designs: Sequence[_Design]) -> float:
    return float(sum(one.variance * one.slope @ one.spread @ one.slope for one in designs))


def _measured(fits: Sequence[Fit]) -> tuple[SurfaceMultiplier, list[_Design], float] | Refusal:
    """The multiplier, what is known of each law, and Student's 97.5% quantile."""
    if any(fitted.law != CHINCHILLA or not fitted.free.all() for fitted in fits):
        return Refusal("the design is that of Chinchilla's law with all parameters free")
    loss = common_losses(fits)
    if isinstance(loss, Refusal):
        return loss
    designs = [_design(fitted, loss) for fitted in fits]
    centre = np.subtract(*(log_compute(fitted.coordinates, loss).mean() for fitted in fits[::-1]))
    quantile = float(stdtrit(min(one.degrees for one in designs), 0.975))
    half = quantile * np.sqrt(_variance(designs))
    mean, low, high = (float(np.exp(value)) for value in (centre, centre - half, centre + half))
    return SurfaceMultiplier(mean, low, high, (float(loss[0]), float(loss[-1]))), designs, quantile


def surface_multiplier(reference: Fit, other: Fit) -> SurfaceMultiplier | Refusal:
    """FLOPs (6 N D) of `other` over those of `reference` at equal loss, each at its optimal allocation.

    Args:
        reference: A fit of Chinchilla's law.
        other: The same of the other objective.
    """
    measured = _measured((reference, other))
    return measured if isinstance(measured, Refusal) else measured[0]


def propose(reference: Fit, other: Fit, candidates: Candidates, budget: float, seeds: int = 4) -> Proposal | Refusal:
    """The runs that lower the variance of ln multiplier most per unit of cost, one after another within the budget.

    Each choice counts what the earlier ones will show. A candidate may be chosen again, as another seed.

    Args:
        reference: A fit of Chinchilla's law.
        other: The same of the other objective.
        candidates: The runs to choose from.
        budget: What all chosen runs may cost together.
        seeds: How often one candidate may be chosen.

    Reference: Chaloner and Larntz 1989.
    """
    measured = _measured((reference, other))
    if isinstance(measured, Refusal):
        return measured
    now, designs, quantile = measured
    inputs = Runs(candidates.parameters, candidates.tokens)
    effects = [effects_on_loss(fitted.coordinates, inputs)[1] for fitted in (reference, other)]
    effects = np.where(candidates.objective[:, None] == 0, *effects)
    before, chosen = _variance(designs), []
    left = np.full(len(candidates.cost), seeds)
    while np.any(affordable := (candidates.cost <= budget) & (left > 0)):
        gains = np.zeros(len(candidates.cost))
        for which, one in enumerate(designs):
            mine = candidates.objective == which
            seen = effects[mine] @ one.spread
            gains[mine] = one.variance * (seen @ one.slope) ** 2 / (1 + np.sum(seen * effects[mine], axis=1))
        best = int(np.argmax(np.where(affordable, gains / candidates.cost, -1.0)))
        which, effect = int(candidates.objective[best]), effects[best]
        seen = designs[which].spread @ effect
        spread = designs[which].spread - np.outer(seen, seen) / (1 + effect @ seen)
        designs[which] = designs[which]._replace(spread=spread)
        budget -= candidates.cost[best]
        left[best] -= 1
        chosen.append(best)
    if not chosen:
        return Refusal(f"the budget pays for none of the candidates; the cheapest costs {candidates.cost.min():.3g}")
    widths = (2 * quantile * float(np.sqrt(value)) for value in (before, _variance(designs)))
    return Proposal(np.array(chosen), now, *widths)
