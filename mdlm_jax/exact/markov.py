"""The stationary Markov chain: the optimal masked denoiser and its nats at any length.

Given the revealed tokens, a position depends only on the nearest revealed one on each side. `mdlm_jax.data.markov`
makes the chains and samples them: (stationary, transitions) here are what its `markov_chain` returns.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.special import xlogy

from mdlm_jax.data.markov import entropy_rate


def markov_conditionals(
    stationary: Float[np.ndarray, "V"], transitions: Float[np.ndarray, "V V"], tokens: Int[np.ndarray, "L"]
) -> Float[np.ndarray, "L V"]:
    """p(x_i = k | the visible tokens other than x_i) is proportional to P^d1[a, k] P^d2[k, b]; V is the mask.

    a and b are the nearest visible tokens, d1 and d2 positions away; a side without any gives pi_k, or 1, instead.
    NaN where the visible tokens have no probability.
    """
    vocab, length = len(stationary), len(tokens)
    from_left = np.empty((length, vocab))
    from_right = np.empty((length, vocab))
    past, future = stationary, np.ones(vocab)
    for position in range(length):
        from_left[position] = past
        seen = np.eye(vocab)[tokens[position]] if tokens[position] < vocab else past
        past = seen @ transitions
    for position in reversed(range(length)):
        from_right[position] = future
        seen = np.eye(vocab)[tokens[position]] if tokens[position] < vocab else future
        future = transitions @ seen
    probs = from_left * from_right
    return probs / probs.sum(axis=1, keepdims=True)


def markov_leave_one_out(
    stationary: Float[Array, "V"], transitions: Float[Array, "V V"], evidence: Float[Array, "L V"]
) -> Float[Array, "L V"]:
    """p(x_i = v | the evidence at all other positions), where evidence[i, x] is its likelihood given x: O(L V^2).

    The forward-backward recursion without the position's own evidence: the forward message times the backward message.
    """

    def step_right(probs, shown):
        after = (probs * shown) @ transitions
        return after / after.sum(), probs

    def step_left(message, shown):
        before = transitions @ (message * shown)
        return before / before.sum(), message

    _, from_left = jax.lax.scan(step_right, stationary, evidence)
    _, from_right = jax.lax.scan(step_left, jnp.ones_like(stationary), evidence, reverse=True)
    probs = from_left * from_right
    return probs / probs.sum(axis=-1, keepdims=True)


def markov_entropy(stationary: Float[np.ndarray, "V"], transitions: Float[np.ndarray, "V V"], length: int) -> float:
    """H(x_1 .. x_L) = H(pi) + (L - 1) h in nats: the least that `ar`, `any_order` and `masked` can reach."""
    return float(-xlogy(stationary, stationary).sum() + (length - 1) * entropy_rate(stationary, transitions))


def markov_masked_nats(
    stationary: Float[np.ndarray, "V"], transitions: Float[np.ndarray, "V V"], length: int, noised: float
) -> float:
    """Expected nats of the hidden tokens, each hidden with probability `noised`, under the optimal denoiser: O(L^3).

    With h(d) = H(x_d | x_0), a hidden token with neighbours d1 and d2 away costs h(d1) + h(d2) - h(d1 + d2) nats.
    The integral of (this / noised) over noised in [0, 1] is `markov_entropy`: the optimal bound is tight.
    """
    far = float(-xlogy(stationary, stationary).sum())  # h(infinity): a side without a visible token
    step, power = [0.0], transitions
    for _ in range(1, length):
        step.append(entropy_rate(stationary, power))
        power = power @ transitions
    step = np.array(step)

    def side(reach: int) -> tuple[np.ndarray, np.ndarray]:
        """Distances 1 .. reach and, as 0, none; and their probabilities."""
        distance = np.append(np.arange(1, reach + 1), 0)
        chance = np.append((1 - noised) * noised ** np.arange(reach), noised**reach)
        return distance, chance

    total = 0.0
    for position in range(length):
        (left, left_chance), (right, right_chance) = side(position), side(length - 1 - position)
        alone = np.where(left > 0, step[left], far)[:, None] + np.where(right > 0, step[right], far)
        both = (left[:, None] > 0) & (right > 0)
        together = np.where(both, step[np.where(both, left[:, None] + right, 0)], far)
        total += left_chance @ (alone - together) @ right_chance
    return float(noised * total)
