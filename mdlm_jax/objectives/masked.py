"""Masked diffusion: mask each token with the probability of a random time, weighted by the rate of the schedule."""

import math

import jax
import jax.numpy as jnp

from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.objectives.any_order import any_order, k_form, mask_tokens, random_ranks
from mdlm_jax.objectives.base import Objective, View, cross_entropy, full, loss_mask
from mdlm_jax.objectives.context_weights import context_weights
from mdlm_jax.objectives.parameterizations import leave_one_out
from mdlm_jax.processes.mixture import absorbing
from mdlm_jax.schedules import Schedule, check_schedule, inverse, noise_rate, step_rate

MOST_STEPS = 2**23  # of discrete time: float32 draws no finer times


def masked(
    mask_id: int,
    schedule: Schedule,
    time_epsilon: float = 0.0,
    independent_times: bool = False,
    num_steps: int = 0,
    complementary: bool = False,
) -> Objective:
    """The continuous-time bound of MDLM, MD4, RADD and SMDM: -alpha' / (1 - alpha) nats per nat of a masked token.

    Two published conventions avoid times near 0. SMDM and LLaDA draw p = (1 - 1e-3) t + 1e-3 and weight by 1 / p: that
    is `linear(0)` with time_epsilon = 1e-3. MDLM and RADD draw t in [1e-3, 1], mask with (1 - 1e-3) t and weight by
    1 / t: `linear(1e-3)` with time_epsilon = 1e-3. Both leave out times below epsilon, MDLM's also mask rates above
    1 - epsilon, so they differ from the bound by about epsilon. With epsilon = 0 it is the bound. A schedule that does
    not reach 0 and 1 (MD4's, geometric) costs log V for each token that is masked at 0 or unmasked at 1 (MD4, appendix
    D).

    In continuous time it is reported by the k-form of `any_order`, which has the same expectation and finite variance.

    Args:
        mask_id: V; the mask is the token after the V tokens.
        schedule: P(masked) at each time.
        time_epsilon: Times are uniform in [time_epsilon, 1].
        independent_times: Draw each time independently, instead of stratified over the batch.
        num_steps: T > 0 gives the bound of a chain of T steps, of which one is drawn; 0: continuous time.
        complementary: A second view masks exactly the tokens that the first one shows.

    Raises:
        UserError: num_steps is negative, above 2^23 or combined with a time_epsilon or complementary views; or the
            schedule falls.

    Reference: MDLM, arXiv 2406.07524; MD4, arXiv 2406.04329; RADD, arXiv 2406.03736; SMDM, arXiv 2410.18514.
    """
    if not 0 <= num_steps <= MOST_STEPS:
        raise UserError(f"num_steps={num_steps}; accepted: 0 (continuous time) to {MOST_STEPS}")
    if num_steps and (time_epsilon or complementary):
        # the tokens that a step leaves are a view of another chain, and a chain avoids time 0 by itself
        raise UserError(f"num_steps={num_steps}; accepted: 0 with time_epsilon (smdm, mdlm) or complementary views")
    check_schedule("schedule", schedule)
    with jax.ensure_compile_time_eval():
        at_start, at_end = (float(schedule(jnp.float32(t))) for t in (0, 1))
    ends = 0.0 if time_epsilon else (at_start + 1 - at_end) * math.log(mask_id)

    def view(objective_params, key, example: Example, u) -> View:
        key_time, key_masked = jax.random.split(key)
        drawn = jax.random.uniform(key_time) if independent_times else u
        if num_steps:
            t = (jnp.floor(drawn * num_steps) + 1) / num_steps
            noised, rate = schedule(t), step_rate(schedule, t, 1 / num_steps)
        else:
            # never exactly 0, where the weight of a power schedule is 0 / 0
            t = jnp.maximum(time_epsilon + (1 - time_epsilon) * drawn, 1e-6)
            noised, rate = noise_rate(schedule, t)
        first, masked = _masked_view(key_masked, example, mask_id, t, noised, rate)
        if complementary:
            # the bound is an integral of dm / m, m = P(masked): for the second view it is dm / (1 - m).
            # in float32 a power of t may be 0, and its rate 0 / 0
            slope = jnp.where(noised > 0, rate * noised, 0)
            rest = _rest_of(example, masked, mask_id, slope / jnp.maximum(1 - noised, 1e-6), schedule, noised)
            first = jax.tree.map(lambda one, two: jnp.concatenate([one, two]), first, rest)
        return first._replace(constant=first.constant + ends * loss_mask(example).sum())

    return Objective(
        view,
        cross_entropy,
        full,
        bound="upper",
        estimator=f"random steps of {num_steps}" if num_steps else "random times",
        evaluate=None if num_steps else k_form(mask_id, schedule),
        num_steps=num_steps,
        views=2 if complementary else 1,
        parameterization=lambda objective_params: leave_one_out(absorbing(mask_id, schedule)),
    )


def masked_plain(mask_id: int, schedule: Schedule, complementary: bool = False, context_rate: float = 0.0) -> Objective:
    """The views of `masked` with all masked tokens weighted alike: no bound; reported by the k-form of `any_order`.

    It reaches the same likelihood with about 12% fewer FLOPs (arXiv 2602.15014).

    Args:
        mask_id: V; the mask is the token after the V tokens.
        schedule: P(masked) at each time.
        complementary: Each token is masked in one of two views, and the loss is the mean cross-entropy over all tokens
            (Fast-dLLM v2, arXiv 2509.26328).
        context_rate: Above 0, each masked token is weighted by the visible tokens around it, as `context_weights` does
            with this rate (Dream, arXiv 2508.15487).
    """

    def view(objective_params, key, example: Example, u) -> View:
        t = jnp.maximum(u, 1e-6)
        noised = schedule(t)
        # a loss is the mean over views: where each scores its own part of the tokens, every token counts twice
        found, masked = _masked_view(key, example, mask_id, t, noised, 2.0 if complementary else 1.0)
        if complementary:
            rest = _rest_of(example, masked, mask_id, 2.0, schedule, noised)
            found = jax.tree.map(lambda one, two: jnp.concatenate([one, two]), found, rest)
        if context_rate:
            visible = (found.tokens != mask_id) & (found.segments > 0)
            weights = jax.vmap(context_weights, (0, 0, None))(visible, found.segments, context_rate)
            found = found._replace(weight=found.weight * weights)
        return found

    return masked(mask_id, schedule, complementary=complementary)._replace(view=view, bound="none")


def masked_lm(mask_id: int, rate: float = 0.15) -> Objective:
    """BERT's fixed share of masked tokens: nats per masked token, no bound; reported as `any_order`.

    At least one token is masked. Every chosen token becomes the mask: none is kept or replaced by a random one.

    Reference: BERT, arXiv 1810.04805.
    """

    def view(objective_params, key, example: Example, u) -> View:
        eligible = loss_mask(example)
        num_tokens = eligible.sum()
        num_masked = jnp.maximum(jnp.round(rate * num_tokens).astype(jnp.int32), 1)
        masked = eligible & (random_ranks(key, eligible) < num_masked)
        return mask_tokens(example, masked, num_tokens / num_masked, mask_id, num_masked / jnp.maximum(num_tokens, 1))

    reported = any_order(mask_id)
    return reported._replace(view=view, bound="none", estimator="random sets", evaluate=reported)


def _masked_view(key, example: Example, mask_id: int, t, noised, rate):
    """A view with each token masked with probability `noised` and weighted by `rate`; and which tokens are masked."""
    masked = loss_mask(example) & (jax.random.uniform(key, example.tokens.shape) < noised)
    return mask_tokens(example, masked, rate, mask_id, t), masked


def _rest_of(example: Example, masked, mask_id: int, rate, schedule: Schedule, noised) -> View:
    """The complementary view, at the time at which the schedule masks the share 1 - noised."""
    return mask_tokens(example, loss_mask(example) & ~masked, rate, mask_id, inverse(schedule)(1 - noised))
