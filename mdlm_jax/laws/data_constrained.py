"""Laws of the loss on repeated data, whose tokens count less with every repetition.

Muennighoff et al. 2023 (arXiv 2305.16264, eq. 5-7, appendix A) for autoregressive models; Prabhudesai et al. 2025
(arXiv 2507.15857) fit the same form to masked diffusion, whose repetitions keep their value for longer (R_D* of 494
against 15); Quokka (arXiv 2510.03280, eq. 15) has another form, in which too many epochs hurt. If a decay is slow
beside the epochs of the runs, they hardly determine its constant: look at its profile likelihood before you quote it.
"""

from itertools import product
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import nnls

from mdlm_jax.laws.parametric import CHINCHILLA, LEAST, Runs, chinchilla_log_loss, log_sum
from mdlm_jax.laws.refusal import Refusal
from mdlm_jax.laws.surface import Fit, Law, fit_law, loss_at

DECAYS = np.log([2.0, 16.0, 128.0, 1024.0])  # a fit starts from every pair


class RepeatedRuns(NamedTuple):
    parameters: Float[np.ndarray, "runs"]
    tokens: Float[np.ndarray, "runs"]  # repetitions included
    unique_tokens: Float[np.ndarray, "runs"]


class Muennighoff(NamedTuple):
    """Chinchilla's law of effective parameters and tokens, which saturate with repetitions."""

    E: float | np.ndarray
    A: float | np.ndarray
    B: float | np.ndarray
    alpha: float | np.ndarray
    beta: float | np.ndarray
    tokens_decay: float | np.ndarray  # R_D*, in repetitions
    parameters_decay: float | np.ndarray  # R_N*, in multiples of the size that the unique tokens are optimal for


def _saturating(
    amount: Float[Array | np.ndarray, "runs"], useful: Float[Array | np.ndarray, "runs"], log_decay: Float[Array, ""]
):
    """The first `useful` of an amount count fully; each further multiple of it counts exp(-1 / decay) as much."""
    useful = jnp.minimum(useful, amount)
    decay = jnp.exp(log_decay)
    return useful - useful * decay * jnp.expm1(-(amount / useful - 1) / decay)


def muennighoff_log_loss(coordinates: Float[Array, "7"], runs: RepeatedRuns) -> Float[Array, "runs"]:
    _, log_a, log_b, alpha, beta = base = coordinates[:5]
    tokens = _saturating(runs.tokens, runs.unique_tokens, coordinates[5])
    unique = jnp.minimum(runs.tokens, runs.unique_tokens)
    balance = (jnp.log(alpha / beta) + log_a - log_b) / (alpha + beta)
    optimal = jnp.exp(balance + (beta / alpha) * (balance + jnp.log(unique)))
    return chinchilla_log_loss(base, Runs(_saturating(runs.parameters, optimal, coordinates[6]), tokens))


def muennighoff_starts(runs: RepeatedRuns, loss: Float[np.ndarray, "runs"]) -> Float[np.ndarray, "starts 7"]:
    """Chinchilla's law with equal exponents and without repetition, and a grid of both decays."""
    base = CHINCHILLA.starts(Runs(runs.parameters, runs.tokens), loss)
    return _with_decays(base[base[:, 3] == base[:, 4]])


def _with_decays(base: Float[np.ndarray, "n 5"]) -> Float[np.ndarray, "starts 7"]:
    return np.array([[*coordinates, first, second] for coordinates in base for first in DECAYS for second in DECAYS])


MUENNIGHOFF = Law(Muennighoff, CHINCHILLA.logarithmic + (True, True), muennighoff_log_loss, muennighoff_starts)


def fit_two_stage(runs: RepeatedRuns, loss: Float[np.ndarray, "runs"], estimator: str = "huber_sum") -> Fit | Refusal:
    """Muennighoff et al.'s two stages: Chinchilla's law from the runs on fresh data, then both decays from all runs.

    The second stage keeps the result of the first; `fit_law(MUENNIGHOFF, ..., starts=coordinates[None])` frees it. It
    is refused if the runs on fresh data do not determine Chinchilla's law, or the others the decays.
    """
    fresh = runs.tokens <= runs.unique_tokens
    base = fit_law(CHINCHILLA, Runs(runs.parameters[fresh], runs.tokens[fresh]), loss[fresh], estimator)
    if isinstance(base, Refusal):
        return Refusal(f"the runs of up to one epoch: {base.reason}")
    return fit_law(MUENNIGHOFF, runs, loss, estimator, _with_decays(base.coordinates[None]), free=np.arange(7) >= 5)


class Quokka(NamedTuple):
    """A / N^alpha + B / D'^beta with D' = U e^gain exp(-((e - 1) / e_p)^decay), e = tokens / U epochs, and
    e_p = peak U^peak_unique / N^peak_parameters."""

    A: float | np.ndarray
    B: float | np.ndarray
    alpha: float | np.ndarray
    beta: float | np.ndarray
    gain: float | np.ndarray
    decay: float | np.ndarray
    peak: float | np.ndarray
    peak_unique: float | np.ndarray
    peak_parameters: float | np.ndarray


def quokka_log_tokens(coordinates: Float[Array, "9"], runs: RepeatedRuns) -> Float[Array, "runs"]:
    """ln D'."""
    gain, log_decay, log_peak, peak_unique, peak_parameters = coordinates[4:]
    log_epochs = jnp.log(runs.tokens / runs.unique_tokens)
    log_scale = log_peak + peak_unique * jnp.log(runs.unique_tokens) - peak_parameters * jnp.log(runs.parameters)
    repeats = jnp.maximum(jnp.expm1(log_epochs), 1e-12)  # 0 in the first epoch, where a power has no slope
    lost = jnp.exp(jnp.exp(log_decay) * (jnp.log(repeats) - log_scale))
    return jnp.log(runs.unique_tokens) + gain * log_epochs - lost


def quokka_log_loss(coordinates: Float[Array, "9"], runs: RepeatedRuns) -> Float[Array, "runs"]:
    log_a, log_b, alpha, beta = coordinates[:4]
    by_tokens = log_b - beta * quokka_log_tokens(coordinates, runs)
    return log_sum(log_a - alpha * jnp.log(runs.parameters), by_tokens)


def quokka_starts(runs: RepeatedRuns, loss: Float[np.ndarray, "runs"]) -> Float[np.ndarray, "starts 9"]:
    """A grid around the published exponents, with the linear A and B by least squares of the relative error."""
    log_parameters, log_unique = np.log(runs.parameters), np.log(runs.unique_tokens)
    starts = []
    for alpha, beta, gain, decay, peak in product((0.2, 0.45), (0.1, 0.2, 0.35), (0.8, 1.5), (0.4, 0.8), (10.0, 100.0)):
        log_peak = np.log(peak) - 0.4 * log_unique.mean() + 0.5 * log_parameters.mean()
        shape = [gain, np.log(decay), log_peak, 0.4, 0.5]
        log_tokens = np.asarray(quokka_log_tokens(jnp.array([0, 0, 0, 0, *shape]), runs))
        powers = np.stack([-alpha * log_parameters, -beta * log_tokens], axis=1)
        largest = powers.max(axis=0)
        terms = np.exp(powers - largest)
        linear = np.maximum(nnls(terms / loss[:, None], np.ones_like(loss))[0], LEAST * loss.min())
        starts.append([*(np.log(linear) - largest), alpha, beta, *shape])
    return np.array(starts)


QUOKKA = Law(Quokka, (True, True, False, False, False, True, True, False, False), quokka_log_loss, quokka_starts)


def crossover(first: Fit, second: Fit, path: RepeatedRuns) -> float | Refusal:
    """The 6 N D, in FLOPs, from which `second` predicts a lower loss than `first`.

    It is refused if the path goes more than 1.5 decades outside the fitted range of either, or if they do not cross.

    Args:
        first: A fit to `RepeatedRuns`.
        second: A fit of another objective to `RepeatedRuns`.
        path: Runs in order of their compute.
    """
    loss_first, loss_second = (loss_at(fitted, path) for fitted in (first, second))
    if isinstance(loss_first, Refusal):
        return Refusal(f"the first: {loss_first.reason}")
    if isinstance(loss_second, Refusal):
        return Refusal(f"the second: {loss_second.reason}")
    ahead = loss_first - loss_second
    turns = np.flatnonzero((ahead[:-1] < 0) & (ahead[1:] >= 0))
    if len(turns) == 0:
        lower = "second" if ahead[0] >= 0 else "first"
        return Refusal(f"the losses do not cross on this path, the {lower} is the lower where it starts")
    log_compute, turn = np.log(6 * path.parameters * path.tokens), turns[0]
    share = -ahead[turn] / (ahead[turn + 1] - ahead[turn])
    return float(np.exp(log_compute[turn] + share * (log_compute[turn + 1] - log_compute[turn])))
