"""Fast-dLLM's theorem 1 (arXiv 2505.22618) in toy distributions whose distribution is known: n tokens that each have a
probability above 1 - e, with (n + 1) e <= 1, may be placed at once: greedy in parallel is greedy one by one. The bound
is tight."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Model
from mdlm_jax.sampling import Confidence, sample

V = 3


def conditionals(joint: np.ndarray) -> np.ndarray:
    """[tokens and masks .., position, token]: the distribution of each position given what is not hidden."""
    n = joint.ndim
    table = np.zeros((V + 1,) * n + (n, V))
    for shown in itertools.product(range(V + 1), repeat=n):
        part = joint[tuple(slice(None) if token == V else slice(token, token + 1) for token in shown)]
        for position in range(n):
            probs = part.sum(axis=tuple(other for other in range(n) if other != position))
            table[shown][position] = probs / probs.sum() if shown[position] == V else 1 / V
    return table


def hidden(params, view, mask, cache=None):
    return params[tuple(view.tokens.T)], None


TOY = Model(None, hidden, lambda _, hidden: hidden, None, Architecture(V, 1, V, 1, 1, 1))


def greedy(joint: np.ndarray, **arguments):
    params = jnp.log(jnp.asarray(conditionals(joint), jnp.float32))
    plan = Confidence(temperature=0.0, **arguments)
    tokens, trace = sample(jax.random.key(0), TOY, params, jnp.zeros((1, 0), int), plan, joint.ndim)
    return tuple(np.asarray(tokens)[0].tolist()), int(trace.evaluations[0])


@pytest.mark.parametrize("n", [2, 3])
def test_parallel_matches_sequential_above_the_bound(n):
    random, limit = np.random.default_rng(n), 1 - 1 / (n + 1)
    met = 0
    for _ in range(60):
        # the likeliest joint state has little mass of its own: its tokens are likely apart from each other
        joint = random.dirichlet(np.full(V**n, 0.08)).reshape((V,) * n) + 1e-6
        joint /= joint.sum()
        marginals = [joint.sum(axis=tuple(other for other in range(n) if other != position)) for position in range(n)]
        if min(probs.max() for probs in marginals) <= limit + 1e-5:
            continue
        met += 1
        together, steps = greedy(joint, rule="threshold", limit=limit)
        one_by_one, _ = greedy(joint)
        assert steps == 1 and together == one_by_one == np.unravel_index(joint.argmax(), joint.shape)
    assert met >= 5


@pytest.mark.parametrize("n", [2, 3])
def test_bound_is_tight(n):
    """Each state with one other token has probability 1 / (n + 1), and so has the state of all likely tokens, up to
    a small difference."""

    def toy(little: float) -> np.ndarray:
        joint = np.full((V,) * n, 1e-7)
        for position in range(n):
            joint[tuple(np.eye(n, dtype=int)[position])] = 1 / (n + 1) - little / n
        joint[(0,) * n] = 1 / (n + 1) + little
        return joint / joint.sum()

    above, below = toy(1e-3), toy(-1e-3)
    limit = 1 - 1 / (n + 1)
    likely = [joint.sum(axis=tuple(range(1, n)))[0] for joint in (above, below)]
    assert likely[0] > limit > likely[1] > limit - 1e-3
    assert greedy(above, rule="threshold", limit=limit) == (greedy(above)[0], 1)
    # just below it, tokens that are taken together are not those that are taken one by one
    together, steps = greedy(below, rule="threshold", limit=limit - 1e-3)
    assert steps == 1 and together == (0,) * n and greedy(below)[0] != together
    # the limit of the theorem does not take them together
    assert greedy(below, rule="threshold", limit=limit)[0] == greedy(below)[0]
