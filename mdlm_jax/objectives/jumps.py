"""Objectives that read a sequence and a neighbour of it, one token away: tauLDR's bound and implicit CSM.

Both sum the predictions for all neighbours here, and subtract the prediction, at the neighbour, for the way back. The
first view is the sequence, where each token is its own target. The second is the neighbour, where only the changed
position has a weight, and its target is the token that was there.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy
from jaxtyping import Array, Float

from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.objectives.base import Objective, View, full, loss_mask
from mdlm_jax.objectives.closed_form import at, rates_out_of
from mdlm_jax.objectives.noised import continuous_time, importance_sampled_times, noised, noisy_tokens, one_hot, times
from mdlm_jax.objectives.parameterizations import full_posterior, score
from mdlm_jax.objectives.score_entropy import sedd
from mdlm_jax.processes.base import Process, mask_only
from mdlm_jax.processes.mixture import uniform
from mdlm_jax.schedules import Schedule


def tauldr(process: Process) -> Objective:
    """The continuous-time bound of tauLDR (arXiv 2205.14987, proposition 2), with a denoiser p(x_0 | x_t).

    E[sum of the reverse rates out of x - Z(x) log of the reverse rate from x' back to x]: x' is one jump of the forward
    chain from x, and Z its total rate. The constant makes it the bound itself: at every t and x it has the mean of
    score entropy. The network runs on x and on x'; the published code runs it on x' alone, which is biased.

    Raises:
        UserError: The process has no rates.
    """
    rate, exit, jump = process.rate, process.exit, process.jump
    if rate is None or exit is None or jump is None:
        raise UserError("process has no rates; accepted: one in continuous time")
    parameterization = full_posterior(process)

    def view(objective_params, key, example: Example, u) -> View:
        key_noise, key_position, key_token = jax.random.split(key, 3)
        here = jax.tree.map(lambda field: field[0], noised(process, example, key_noise, continuous_time(u)))
        eligible = loss_mask(example)
        leaving = jnp.where(eligible, exit(here.tokens, here.t), 0)
        total = leaving.sum()
        position = _draw_position(key_position, leaving)
        moved = jnp.where(position, jump(key_token, here.tokens, here.t), here.tokens)
        there = process.forward(one_hot(example.tokens, process.vocab), here.t)
        r = there / at(there, here.tokens)[..., None]
        constant = rate(here.tokens, here.t) * (xlogy(r, r) - r)
        return _pair(here, moved, position, total, jnp.where(eligible[:, None], constant, 0).sum() + here.constant)

    def token_loss(objective_params, logits: Float[Array, "*n V"], view: View) -> Float[Array, "*n"]:
        z, t = noisy_tokens(view), times(view)
        if process.mixture is None:
            log_s = parameterization.log_ratio(logits, z, t)
            return _both(view, (rate(z, t) * jnp.exp(log_s)).sum(axis=-1), -at(log_s, view.targets))
        scores = parameterization.scores(logits, view.targets, z, t)
        return _both(view, rates_out_of(process, scores, z, t), -scores.log_target)

    objective = Objective(
        view,
        token_loss,
        full,
        bound="upper",
        estimator="random times and jumps",
        views=2,
        parameterization=lambda objective_params: parameterization,
        timed=not mask_only(process),
    )
    return objective._replace(evaluate=importance_sampled_times(objective))


def csm(mask_id: int, schedule: Schedule, form: str) -> Objective:
    """Concrete score matching of uniformly noised text: the squared error of c = ratio - 1 over neighbours, no nats.

    It is reported by the score entropy of the same scores. Both forms are weighted by the inverse square of the largest
    ratio at t; their means differ by a constant that does not depend on the network.

    Args:
        mask_id: Id of the mask, V.
        schedule: P(noised) at each time.
        form: Implicit, E[sum of (c^2 + 2 c) at x - 2 c of the way back at a random neighbour]; or denoising, against
            the ratios of q(x_t | x_0).

    Raises:
        UserError: There is no such form.

    Reference: arXiv 2211.00802.
    """
    process = uniform(mask_id, schedule)
    jump = process.jump
    assert jump is not None
    if form not in ("implicit", "denoising"):
        raise UserError(f"form={form!r}; accepted: implicit, denoising")

    def importance(t):
        probs = process.forward(jnp.zeros((*t.shape, mask_id)).at[..., 0].set(1), t)
        return (probs[..., 1] / probs[..., 0]) ** 2

    def implicit_view(objective_params, key, example: Example, u) -> View:
        key_noise, key_position, key_token = jax.random.split(key, 3)
        here = jax.tree.map(lambda field: field[0], noised(process, example, key_noise, continuous_time(u)))
        eligible = jnp.asarray(loss_mask(example), jnp.float32)
        position = _draw_position(key_position, eligible)
        moved = jnp.where(position, jump(key_token, here.tokens, here.t), here.tokens)
        return _pair(here, moved, position, eligible.sum() * (mask_id - 1), jnp.zeros(()))

    def implicit_loss(objective_params, logits: Float[Array, "*n V"], view: View) -> Float[Array, "*n"]:
        z, t = noisy_tokens(view), times(view)
        c = jnp.expm1(logits)
        neighbour = jnp.arange(mask_id) != z[..., None]
        return importance(t) * _both(view, jnp.where(neighbour, c**2 + 2 * c, 0).sum(axis=-1), -2 * at(c, view.targets))

    def denoising_view(objective_params, key, example: Example, u) -> View:
        return noised(process, example, key, continuous_time(u))

    def denoising_loss(objective_params, logits: Float[Array, "*n V"], view: View) -> Float[Array, "*n"]:
        z, t = noisy_tokens(view), times(view)
        there = process.forward(one_hot(view.targets, mask_id), t)
        error = jnp.where(jnp.arange(mask_id) == z[..., None], 0, jnp.exp(logits) - there / at(there, z)[..., None])
        return importance(t) * view.weight * (error**2).sum(axis=-1)

    implicit = form == "implicit"
    return Objective(
        implicit_view if implicit else denoising_view,
        implicit_loss if implicit else denoising_loss,
        full,
        bound="none",
        estimator="random times and neighbours" if implicit else "random times",
        evaluate=sedd(process, "raw").evaluate,
        views=2 if implicit else 1,
        parameterization=lambda objective_params: score(process),
        timed=True,
    )


def _draw_position(key: Array, weight: Float[Array, "L"]) -> Array:
    """bool[L]: one position, drawn by weight; none where all weights are 0."""
    position = jax.random.categorical(key, jnp.log(weight), mode="high")
    return (jnp.arange(weight.size) == position) & (weight > 0)


def _pair(here: View, moved: Array, position: Array, total: Array, constant: Array) -> View:
    """The two views. Their mean is taken, so each counts twice."""
    first = here._replace(targets=here.tokens, weight=2 * here.weight, constant=2 * constant)
    second = here._replace(
        tokens=moved, targets=here.tokens, weight=jnp.where(position, 2 * total, 0), constant=jnp.zeros(())
    )
    return jax.tree.map(lambda a, b: jnp.stack([a, b]), first, second)


def _both(view: View, of_all: Array, of_one: Array) -> Array:
    """`of_all` where a position is its own target (the sum over neighbours), `of_one` elsewhere (the way back)."""
    stays = noisy_tokens(view) == view.targets
    return view.weight * jnp.where(stays, of_all, of_one)
