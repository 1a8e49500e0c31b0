"""Masked diffusion: hide each token with the probability of a random time, weigh by the rate of the schedule."""

import jax
import jax.numpy as jnp

from mdlm_jax.data import Example
from mdlm_jax.objectives.any_order import any_order, hide, random_ranks
from mdlm_jax.objectives.base import Objective, View, cross_entropy, full, scored
from mdlm_jax.schedules import Schedule, noise_rate


def masked(mask_id: int, schedule: Schedule, time_epsilon: float = 0.0, independent_times: bool = False) -> Objective:
    """The continuous-time bound of MDLM, MD4, RADD and SMDM: -alpha' / (1 - alpha) nats per nat of a hidden token.

    Times are uniform in [time_epsilon, 1]. The two published conventions for staying away from t = 0:
    SMDM and LLaDA draw p = (1 - 1e-3) t + 1e-3 and weigh by 1 / p: `linear(0)`, time_epsilon = 1e-3;
    MDLM and RADD draw t in [1e-3, 1], hide with (1 - 1e-3) t and weigh by 1 / t: `linear(1e-3)`, time_epsilon = 1e-3.
    Both leave out what happens below epsilon, MDLM's also what happens above 1 - epsilon, and so differ from the bound
    by about epsilon; with epsilon = 0 it is the bound. `independent_times` draws each time by itself instead of
    stratified over the batch.

    Reported by the k-form (`any_order`), which has the same expectation and finite variance.
    """

    def view(phi, key, example: Example, u) -> View:
        key_time, key_hidden = jax.random.split(key)
        # never exactly 0, where the weight of a power schedule is 0 / 0
        draw = jax.random.uniform(key_time) if independent_times else u
        t = jnp.maximum(time_epsilon + (1 - time_epsilon) * draw, 1e-6)
        noised, rate = noise_rate(schedule, t)
        hidden = scored(example) & (jax.random.uniform(key_hidden, example.tokens.shape) < noised)
        return hide(example, hidden, rate, mask_id, t)

    return Objective(view, cross_entropy, full, bound="upper", estimator="random times", evaluate=any_order(mask_id))


def masked_lm(mask_id: int, rate: float = 0.15) -> Objective:
    """BERT's fixed share of hidden tokens (arXiv 1810.04805): nats per hidden token, no bound; reported as `any_order`.

    At least one token is hidden. All hidden tokens become the mask: none is kept or replaced by a random one.
    """

    def view(phi, key, example: Example, u) -> View:
        eligible = scored(example)
        num_tokens = eligible.sum()
        num_hidden = jnp.maximum(jnp.round(rate * num_tokens).astype(jnp.int32), 1)
        hidden = eligible & (random_ranks(key, eligible) < num_hidden)
        return hide(example, hidden, num_tokens / num_hidden, mask_id, num_hidden / jnp.maximum(num_tokens, 1))

    return Objective(view, cross_entropy, full, bound="none", estimator="random sets", evaluate=any_order(mask_id))
