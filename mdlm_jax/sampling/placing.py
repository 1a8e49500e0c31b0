"""One step of decoding by confidence: a token for every hidden position, how sure the network is, and which are kept.

Every published rule ranks the hidden positions by a confidence and keeps some number of the best; ties go to the left.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mdlm_jax.sampling.base import filtered


def candidates(
    noise: Float[Array, "*n V"] | None,
    logits: Float[Array, "*n V"],
    temperature: Float[Array, ""],
    top_k: int | None,
    top_p: float | None,
) -> Int[Array, "*n"]:
    """A token of each position: the likeliest without noise, or drawn by Gumbel noise from softmax(logits /
    temperature), filtered."""
    if noise is None:
        return logits.argmax(axis=-1).astype(jnp.int32)
    return (filtered(logits / temperature, top_k, top_p) + noise).argmax(axis=-1).astype(jnp.int32)


def of_the_token(keys: Array, probs: Float[Array, "n V"], tokens: Int[Array, "n"]) -> Float[Array, "n"]:
    """The token's probability (LLaDA, arXiv 2502.09992: low-confidence remasking; MaskGIT, arXiv 2202.04200)."""
    return jnp.take_along_axis(probs, tokens[:, None], axis=-1)[:, 0]


def of_the_margin(keys: Array, probs: Float[Array, "n V"], tokens: Int[Array, "n"]) -> Float[Array, "n"]:
    """How far the likeliest token is ahead of the next (arXiv 2502.06768)."""
    first, second = jnp.moveaxis(jax.lax.top_k(probs, 2)[0], -1, 0)
    return first - second


def of_the_entropy(keys: Array, probs: Float[Array, "n V"], tokens: Int[Array, "n"]) -> Float[Array, "n"]:
    """Minus the entropy, in nats."""
    return jax.scipy.special.xlogy(probs, probs).sum(axis=-1)


def of_nothing(keys: Array, probs: Float[Array, "n V"], tokens: Int[Array, "n"]) -> Float[Array, "n"]:
    """A random order, by a key of each position."""
    return jax.vmap(jax.random.uniform)(keys)


def of_the_left(keys: Array, probs: Float[Array, "n V"], tokens: Int[Array, "n"]) -> Float[Array, "n"]:
    """From left to right."""
    return -jnp.arange(len(tokens), dtype=probs.dtype)


CONFIDENCES = {
    "probability": of_the_token,
    "margin": of_the_margin,
    "entropy": of_the_entropy,
    "random": of_nothing,
    "left": of_the_left,
}


def quota(ranked: Float[Array, "n"], planned: Int[Array, ""], limit: Float[Array, ""]) -> Int[Array, ""]:
    """As many as planned for the step, whatever the confidence."""
    return planned


def threshold(ranked: Float[Array, "n"], planned: Int[Array, ""], limit: Float[Array, ""]) -> Int[Array, ""]:
    """All that reach the limit (Fast-dLLM, arXiv 2505.22618)."""
    return (ranked >= limit).sum()


def dynamic(ranked: Float[Array, "n"], planned: Int[Array, ""], limit: Float[Array, ""]) -> Int[Array, ""]:
    """All above the limit, and as many as planned where they are fewer (SDAR, arXiv 2510.06303)."""
    return jnp.maximum((ranked > limit).sum(), planned)


def factor(ranked: Float[Array, "n"], planned: Int[Array, ""], limit: Float[Array, ""]) -> Int[Array, ""]:
    """The most, n, for which (n + 1) (1 - confidence of the n-th) < limit (Fast-dLLM, arXiv 2505.22618, theorem 1).

    As published: the position that fails first is the last to be kept out, unless it is the last of all, which is kept.
    """
    num_hidden, positions = (ranked > -jnp.inf).sum(), jnp.arange(ranked.size)
    fails = (positions > 0) & (positions < num_hidden) & (ranked < 1 - limit / (positions + 2))
    first = jnp.where(fails.any(), fails.argmax(), num_hidden - 1)
    return first + ((first == 0) | (first == num_hidden - 1))


def entropy_bound(ranked: Float[Array, "n"], planned: Int[Array, ""], limit: Float[Array, ""]) -> Int[Array, ""]:
    """The most whose entropies, less the largest, sum to the limit at most: it bounds their joint dependence, in nats
    (EB-Sampler, arXiv 2505.24857). Needs the confidence `entropy`."""
    entropies = jnp.where(ranked > -jnp.inf, -ranked, jnp.inf)
    return ((entropies.cumsum() - entropies) <= limit).sum()


RULES = {
    "quota": quota,
    "threshold": threshold,
    "dynamic": dynamic,
    "factor": factor,
    "entropy_bound": entropy_bound,
}
PLANNED = ("quota", "dynamic")  # rules that heed how many are planned for a step


def ranking(confidence: Float[Array, "n"], hidden: Bool[Array, "n"]) -> Int[Array, "n"]:
    """Positions from the best to the worst, the hidden ones first; ties go to the left."""
    return jnp.lexsort((-confidence, ~hidden))


def best(
    rule: str,
    confidence: Float[Array, "n"],
    hidden: Bool[Array, "n"],
    planned: Int[Array, ""],
    limit: Float[Array, ""],
    upstream_compat: bool = False,
) -> Bool[Array, "n"]:
    """The hidden positions that are kept. Every rule but the planned ones keeps at least one.

    `upstream_compat`: where more are planned than are hidden, others are kept as well (SDAR's code).
    """
    # a hidden position may have no confidence at all, and still comes before what is there
    confidence = jnp.where(hidden & ~jnp.isnan(confidence), confidence, -jnp.inf)
    order = ranking(confidence, hidden)
    count = RULES[rule](confidence[order], planned, limit)
    if rule not in PLANNED:
        count = jnp.maximum(count, 1)
    rank = jnp.zeros(confidence.shape, jnp.int32).at[order].set(jnp.arange(confidence.size, dtype=jnp.int32))
    return (hidden.any() if upstream_compat else hidden) & (rank < count)


def planned_of(
    num_hidden: Int[Array, "*n"], steps: Int[Array, "*#n"] | int, step: Int[Array, "*n"]
) -> Int[Array, "*n"]:
    """How many of a block's hidden tokens a step positions: evenly, the first steps one more where they must
    (LLaDA)."""
    return num_hidden // steps + (step < num_hidden % steps)
