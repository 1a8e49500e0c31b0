"""Masked diffusion: hide each token with the probability of a random time, weigh by the rate of the schedule."""

import math

import jax
import jax.numpy as jnp

from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.objectives.any_order import any_order, mask_tokens, random_ranks
from mdlm_jax.objectives.base import Objective, View, cross_entropy, full, loss_mask
from mdlm_jax.objectives.parameterizations import leave_one_out
from mdlm_jax.processes.mixture import absorbing
from mdlm_jax.schedules import Schedule, check_schedule, noise_rate, step_rate

MOST_STEPS = 2**23  # of discrete time: float32 draws no finer times


def masked(
    mask_id: int,
    schedule: Schedule,
    time_epsilon: float = 0.0,
    independent_times: bool = False,
    num_steps: int = 0,
    complementary: bool = False,
) -> Objective:
    """The continuous-time bound of MDLM, MD4, RADD and SMDM: -alpha' / (1 - alpha) nats per nat of a hidden token.

    Times are uniform in [time_epsilon, 1]. The two published conventions for staying away from t = 0:
    SMDM and LLaDA draw p = (1 - 1e-3) t + 1e-3 and weigh by 1 / p: `linear(0)`, time_epsilon = 1e-3; MDLM and RADD draw
    t in [1e-3, 1], hide with (1 - 1e-3) t and weigh by 1 / t: `linear(1e-3)`, time_epsilon = 1e-3. Both leave out what
    happens below epsilon, MDLM's also what happens above 1 - epsilon, and so differ from the bound by about epsilon;
    with epsilon = 0 it is the bound. A schedule that does not reach 0 and 1 by itself (MD4's, geometric) costs log V
    for each token it leaves masked at 0 or visible at 1 (MD4, arXiv 2406.04329, appendix D).

    `independent_times` draws each time by itself instead of stratified over the batch. `num_steps` = T > 0: the bound
    of a chain of T steps, of which one is drawn. `complementary`: a second view hides what the first shows.

    In continuous time it is reported by the k-form (`any_order`), which has the same expectation and finite variance.
    Raises UserError for fewer than 0 or more than 2^23 steps, steps with a time_epsilon or complementary views, a
    schedule that is none.
    """
    if not 0 <= num_steps <= MOST_STEPS:
        raise UserError(f"num_steps={num_steps}; accepted: 0 (continuous time) to {MOST_STEPS}")
    if num_steps and (time_epsilon or complementary):
        # the rest of what a step hides is another chain's view, and a chain stays away from 0 by itself
        raise UserError(f"num_steps={num_steps}; accepted: 0 with time_epsilon (smdm, mdlm) or complementary views")
    check_schedule("schedule", schedule)
    with jax.ensure_compile_time_eval():
        first, last = (float(schedule(jnp.float32(t))) for t in (0, 1))
    ends = 0.0 if time_epsilon else (first + 1 - last) * math.log(mask_id)

    def view(objective_params, key, example: Example, u) -> View:
        key_time, key_hidden = jax.random.split(key)
        drawn = jax.random.uniform(key_time) if independent_times else u
        if num_steps:
            t = (jnp.floor(drawn * num_steps) + 1) / num_steps
            noised, rate = schedule(t), step_rate(schedule, t, 1 / num_steps)
        else:
            # never exactly 0, where the weight of a power schedule is 0 / 0
            t = jnp.maximum(time_epsilon + (1 - time_epsilon) * drawn, 1e-6)
            noised, rate = noise_rate(schedule, t)
        return _hidden_views(key_hidden, example, mask_id, t, noised, rate, complementary, ends)

    return Objective(
        view,
        cross_entropy,
        full,
        bound="upper",
        estimator=f"random steps of {num_steps}" if num_steps else "random times",
        evaluate=None if num_steps else any_order(mask_id),
        num_steps=num_steps,
        views=2 if complementary else 1,
        parameterization=lambda objective_params: leave_one_out(absorbing(mask_id, schedule)),
    )


def masked_plain(mask_id: int, schedule: Schedule, complementary: bool = False) -> Objective:
    """The same views, every hidden token weighed alike: no bound; reported as `any_order`.

    Fewer FLOPs to the same likelihood by about 12% (arXiv 2602.15014); with `complementary` the second view of LLaDA-
    style fine-tuning (Fast-dLLM v2): each token is scored once.
    """

    def view(objective_params, key, example: Example, u) -> View:
        t = jnp.maximum(u, 1e-6)
        views = _hidden_views(key, example, mask_id, t, schedule(t), None, complementary, 0.0)
        # a loss is the mean over views, of which each scores its own part of the tokens
        return views._replace(weight=2 * views.weight) if complementary else views

    return masked(mask_id, schedule, complementary=complementary)._replace(view=view, bound="none")


def masked_lm(mask_id: int, rate: float = 0.15) -> Objective:
    """BERT's fixed share of hidden tokens (arXiv 1810.04805): nats per hidden token, no bound; reported as `any_order`.

    At least one token is hidden. All hidden tokens become the mask: none is kept or replaced by a random one.
    """

    def view(objective_params, key, example: Example, u) -> View:
        eligible = loss_mask(example)
        num_tokens = eligible.sum()
        num_hidden = jnp.maximum(jnp.round(rate * num_tokens).astype(jnp.int32), 1)
        hidden = eligible & (random_ranks(key, eligible) < num_hidden)
        return mask_tokens(example, hidden, num_tokens / num_hidden, mask_id, num_hidden / jnp.maximum(num_tokens, 1))

    reported = any_order(mask_id)
    return reported._replace(view=view, bound="none", estimator="random sets", evaluate=reported)


def _hidden_views(key, example, mask_id, t, noised, rate, complementary, ends) -> View:
    """Each token hidden with probability `noised`, weighed by `rate` (1 if None); and, if complementary, the rest too.

    With m = P(noised) for the variable the bound is an integral of dm / m: the other view has 1 - m for it, so dm / (1
    - m).
    """
    eligible = loss_mask(example)
    hidden = eligible & (jax.random.uniform(key, example.tokens.shape) < noised)
    view = mask_tokens(example, hidden, 1.0 if rate is None else rate, mask_id, t)
    if complementary:
        # in float32 a power of t may be 0, and its rate 0 / 0
        slope = 1.0 if rate is None else jnp.where(noised > 0, rate * noised, 0)
        other_rate = 1.0 if rate is None else slope / jnp.maximum(1 - noised, 1e-6)
        other = mask_tokens(example, eligible & ~hidden, other_rate, mask_id, 1 - t)
        view = jax.tree.map(lambda one, two: jnp.concatenate([one, two]), view, other)
    return view._replace(constant=view.constant + ends * eligible.sum())
