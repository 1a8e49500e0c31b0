"""Which masked positions to unmask in a step: a confidence for each position, and a rule for how many.

Every published rule ranks the masked positions by a confidence and unmasks the first few; ties go to the left.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def probability(keys: Array, probs: Float[Array, "n V"], tokens: Int[Array, "n"]) -> Float[Array, "n"]:
    """The token's probability (LLaDA, arXiv 2502.09992: low-confidence remasking; MaskGIT, arXiv 2202.04200)."""
    return jnp.take_along_axis(probs, tokens[:, None], axis=-1)[:, 0]


def margin(keys: Array, probs: Float[Array, "n V"], tokens: Int[Array, "n"]) -> Float[Array, "n"]:
    """Probability of the likeliest token minus that of the second (arXiv 2502.06768)."""
    first, second = jnp.moveaxis(jax.lax.top_k(probs, 2)[0], -1, 0)
    return first - second


def entropy(keys: Array, probs: Float[Array, "n V"], tokens: Int[Array, "n"]) -> Float[Array, "n"]:
    """Minus the entropy, in nats."""
    return jax.scipy.special.xlogy(probs, probs).sum(axis=-1)


def random(keys: Array, probs: Float[Array, "n V"], tokens: Int[Array, "n"]) -> Float[Array, "n"]:
    """A uniform number for each position: a random order."""
    return jax.vmap(jax.random.uniform)(keys)


def left(keys: Array, probs: Float[Array, "n V"], tokens: Int[Array, "n"]) -> Float[Array, "n"]:
    """From left to right."""
    return -jnp.arange(len(tokens), dtype=probs.dtype)


# (a key per position, the network's distributions, the drawn tokens) -> confidence; the highest is unmasked first
CONFIDENCES = {"probability": probability, "margin": margin, "entropy": entropy, "random": random, "left": left}


def quota(ranked: Float[Array, "n"], planned: Int[Array, ""], limit: Float[Array, ""]) -> Int[Array, ""]:
    """As many as the step plans, whatever the confidence."""
    return planned


def threshold(ranked: Float[Array, "n"], planned: Int[Array, ""], limit: Float[Array, ""]) -> Int[Array, ""]:
    """All that reach the limit (Fast-dLLM, arXiv 2505.22618)."""
    return (ranked >= limit).sum()


def dynamic(ranked: Float[Array, "n"], planned: Int[Array, ""], limit: Float[Array, ""]) -> Int[Array, ""]:
    """All above the limit, and at least as many as the step plans (SDAR, arXiv 2510.06303)."""
    return jnp.maximum((ranked > limit).sum(), planned)


def factor(ranked: Float[Array, "n"], planned: Int[Array, ""], limit: Float[Array, ""]) -> Int[Array, ""]:
    """The largest n with (n + 1) (1 - confidence of the n-th) < limit (Fast-dLLM, arXiv 2505.22618, theorem 1).

    As published: the first position that fails stays masked, unless it is the last masked position of all.
    """
    num_masked, positions = (ranked > -jnp.inf).sum(), jnp.arange(ranked.size)
    fails = (positions > 0) & (positions < num_masked) & (ranked < 1 - limit / (positions + 2))
    first = jnp.where(fails.any(), fails.argmax(), num_masked - 1)
    return first + ((first == 0) | (first == num_masked - 1))


def entropy_bound(ranked: Float[Array, "n"], planned: Int[Array, ""], limit: Float[Array, ""]) -> Int[Array, ""]:
    """The most positions whose entropies, without the largest, sum to at most the limit.

    The sum bounds in nats how much the tokens depend on each other (EB-Sampler, arXiv 2505.24857). Needs the
    confidence `entropy`.
    """
    entropies = jnp.where(ranked > -jnp.inf, -ranked, jnp.inf)
    return ((entropies.cumsum() - entropies) <= limit).sum()


# (confidences from high to low, the planned count, the limit) -> how many positions to unmask
RULES = {
    "quota": quota,
    "threshold": threshold,
    "dynamic": dynamic,
    "factor": factor,
    "entropy_bound": entropy_bound,
}
PLANNED = ("quota", "dynamic")  # rules that use the planned count


def ranking(confidence: Float[Array, "n"], masked: Bool[Array, "n"]) -> Int[Array, "n"]:
    """Positions by confidence, masked ones first; ties go to the left."""
    return jnp.lexsort((-confidence, ~masked))


def chosen(
    rule: str,
    confidence: Float[Array, "n"],
    masked: Bool[Array, "n"],
    planned: Int[Array, ""],
    limit: Float[Array, ""],
    upstream_compat: bool = False,
) -> Bool[Array, "n"]:
    """The masked positions that the rule unmasks. A rule without a planned count unmasks at least one.

    Args:
        rule: A key of RULES.
        confidence: Confidence of each position; NaN counts as the lowest.
        masked: Which positions are masked.
        planned: How many positions the step plans to unmask.
        limit: The number of the rule.
        upstream_compat: If the step plans more positions than are masked, choose others too, as SDAR's code does.
    """
    confidence = jnp.where(masked & ~jnp.isnan(confidence), confidence, -jnp.inf)
    order = ranking(confidence, masked)
    count = RULES[rule](confidence[order], planned, limit)
    if rule not in PLANNED:
        count = jnp.maximum(count, 1)
    rank = jnp.zeros(confidence.shape, jnp.int32).at[order].set(jnp.arange(confidence.size, dtype=jnp.int32))
    return (masked.any() if upstream_compat else masked) & (rank < count)


def linear_count(
    num_masked: Int[Array, "*n"], steps: Int[Array, "*#n"] | int, step: Int[Array, "*n"]
) -> Int[Array, "*n"]:
    """How many of `num_masked` tokens a step unmasks: evenly, the first steps one more where needed (LLaDA)."""
    return num_masked // steps + (step < num_masked % steps)
