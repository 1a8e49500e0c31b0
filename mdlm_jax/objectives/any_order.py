"""Any order: the mean over all L! orders of the chain rule, a bound of -log p(x) by Jensen (ARDM, arXiv 2110.02037)."""

import jax
import jax.numpy as jnp

from mdlm_jax.data import Example
from mdlm_jax.objectives.autoregressive import one_view, shift_right
from mdlm_jax.objectives.base import Objective, View, causal, cross_entropy, full, loss_mask
from mdlm_jax.objectives.parameterizations import leave_one_out
from mdlm_jax.processes.mixture import absorbing
from mdlm_jax.schedules import Schedule, inverse, linear


def mask_tokens(example: Example, hidden, weight, mask_id: int, t) -> View:
    """The example with the `hidden` tokens masked and in the loss, each nat counted `weight` times."""
    positions = jnp.arange(example.tokens.shape[-1])[:, None]
    return one_view(
        tokens=jnp.where(hidden, mask_id, example.tokens),
        targets=example.tokens,
        weight=jnp.where(hidden, weight, 0.0).astype(jnp.float32),
        t=jnp.reshape(t, 1).astype(jnp.float32),
        positions=positions,
        key_positions=positions,
        segments=example.segments,
        constant=jnp.zeros(()),
    )


def random_ranks(key, eligible):
    """A uniformly random order of the eligible positions: ranks 0 .. n-1; the others come after them."""
    return partly_random_ranks(key, eligible, 1.0)


def partly_random_ranks(key, eligible, shuffled_share: float):
    """As `random_ranks`, with each position in the random part with this probability, and the rest after it in order.

    Reference: Eso-LM, arXiv 2506.01928, where the share is alpha_0.
    """
    draw = turns(jax.random.uniform(key, eligible.shape), shuffled_share)
    return jnp.argsort(jnp.argsort(jnp.where(eligible, draw, jnp.inf)))


def turns(uniform, shuffled_share: float):
    """When each position is generated, smaller first, from a uniform number in [0, 1) of each.

    >>> turns(jnp.array([0.9, 0.4, 0.7, 0.1]), 0.5).tolist()
    [1.0, 0.4000000059604645, 3.0, 0.10000000149011612]
    """
    return jnp.where(uniform < shuffled_share, uniform, 1.0 + jnp.arange(uniform.shape[-1]))


def any_order(mask_id: int) -> Objective:
    """Masks k of the n tokens, k uniform in 1..n, and weights each by n / k: L conditionals in expectation.

    It has the same expectation as `masked` for every network without time conditioning, with a fraction of its
    variance. With time conditioning, the time is the share k / n.

    Reference: ARDM, arXiv 2110.02037; RADD, arXiv 2406.03736, k-DCE.
    """
    return k_form(mask_id, None)


def k_form(mask_id: int, schedule: Schedule | None) -> Objective:
    """`any_order` for a network trained on a schedule: it reads the time at which `schedule` masks the share k / n."""
    time_of = (lambda share: share) if schedule is None else inverse(schedule)

    def view(objective_params, key, example: Example, u) -> View:
        eligible = loss_mask(example)
        num_tokens = eligible.sum()
        num_hidden = jnp.floor(u * num_tokens).astype(jnp.int32) + 1
        hidden = eligible & (random_ranks(key, eligible) < num_hidden)
        share = num_hidden / jnp.maximum(num_tokens, 1)
        return mask_tokens(example, hidden, 1 / share, mask_id, time_of(share))

    return Objective(
        view,
        cross_entropy,
        full,
        bound="upper",
        estimator="any-order k-form, stratified counts",
        parameterization=lambda objective_params: leave_one_out(absorbing(mask_id, schedule or linear())),
    )


def any_order_causal(mask_id: int, shuffled_share: float = 1.0) -> Objective:
    """A random permutation of each document read causally: all L conditionals of one order in one pass.

    RoPE rotates queries by source and target position, keys by source: the double positions of sigma-GPT. The tokens of
    a prompt come first, in order.

    With a shuffled_share below 1 the orders are those of Eso-LM: a random set of tokens first, in random order, then
    the rest from left to right, which see that set on both sides. The mean nats are the any-order bound of the set and
    the chain rule of the rest given it. At 1 all orders are equally likely, as in `any_order`; at 0 there is one, that
    of `ar`.

    Args:
        mask_id: V; the mask is the token after the V tokens.
        shuffled_share: Probability that a token belongs to the set that is generated in random order.

    Reference: sigma-GPT, arXiv 2404.09562; Eso-LM, arXiv 2506.01928, whose alpha_0 is the share. Its network reads
    masks where this one has double positions.
    """

    def view(objective_params, key, example: Example, u) -> View:
        length = example.tokens.shape[-1]
        in_order = jnp.arange(length)
        # sorted by document, then given before scored; given tokens keep their order; padding ends the row
        document = jnp.where(example.segments > 0, example.segments, length + 1)
        order = jnp.lexsort(
            (
                jnp.where(example.prompt_mask, in_order, partly_random_ranks(key, loss_mask(example), shuffled_share)),
                ~example.prompt_mask,
                document,
            )
        )
        segments = example.segments[order]
        target_position = in_order[order]
        own_position = shift_right(target_position, segments, -1)
        return one_view(
            tokens=shift_right(example.tokens[order], segments, mask_id),
            targets=example.tokens[order],
            weight=loss_mask(example)[order].astype(jnp.float32),
            t=jnp.zeros(1),
            positions=jnp.stack([own_position, target_position], axis=-1),
            key_positions=jnp.stack([own_position, own_position], axis=-1),
            segments=segments,
            constant=jnp.zeros(()),
        )

    bound = "upper" if shuffled_share else "exact"  # the chain rule in the only order
    estimator = "random orders" if shuffled_share == 1 else f"orders with a random share of {shuffled_share:g}"
    return Objective(view, cross_entropy, causal, bound=bound, estimator=estimator, coordinates=2)
