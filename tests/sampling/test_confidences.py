"""What a decoder draws from and how it ranks positions, against definitions and enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import chisquare

from mdlm_jax.sampling.drawing import candidates, filtered
from mdlm_jax.sampling.unmasking import CONFIDENCES, chosen
from tests.sampling.toys import RARE


def test_filters_keep_the_likeliest_tokens():
    logits = jnp.log(jnp.array([0.05, 0.4, 0.25, 0.2, 0.1]))
    kept = {
        (1, None): [1],
        (3, None): [1, 2, 3],
        (None, 0.39): [1],
        (None, 0.41): [1, 2],
        (None, 0.86): [1, 2, 3, 4],
        (None, 1.0): [0, 1, 2, 3, 4],
        (3, 0.5): [1, 2],  # 0.4 / 0.85 is below a half
        (2, 0.6): [1],
    }
    for (top_k, top_p), tokens in kept.items():
        np.testing.assert_array_equal(np.flatnonzero(np.isfinite(filtered(logits, top_k, top_p))), tokens)


def test_candidates_follow_the_temperature():
    probs = np.array([0.5, 0.3, 0.15, 0.05])
    logits = jnp.broadcast_to(jnp.log(probs), (40_000, 4))
    noise = jax.random.gumbel(jax.random.key(0), logits.shape, mode="high")
    drawn = np.bincount(candidates(noise, logits, jnp.float32(0.5), None, None), minlength=4)
    assert chisquare(drawn, 40_000 * probs**2 / (probs**2).sum()).pvalue > RARE
    assert (candidates(None, logits[:1], jnp.float32(0), None, None) == 0).all()


def test_entropy_bound_by_enumeration():
    """The rule unmasks the k surest positions, for the largest k that its definition allows."""
    random = np.random.default_rng(0)
    for _ in range(50):
        probs = random.dirichlet(np.full(5, 0.3), size=6)
        hidden = random.random(6) < 0.8
        entropy = -(probs * np.log(probs + 1e-30)).sum(axis=1)
        if not hidden.any():
            continue
        for limit in (0.01, 0.3, 1.0):
            found = chosen(
                "entropy_bound",
                jnp.asarray(-entropy, jnp.float32),
                jnp.asarray(hidden),
                jnp.int32(0),
                jnp.float32(limit),
            )
            allowed = [
                positions
                for size in range(1, hidden.sum() + 1)
                for positions in itertools.combinations(np.flatnonzero(hidden), size)
                if size == 1 or entropy[list(positions)].sum() - entropy[list(positions)].max() <= limit
            ]
            assert found.sum() == max(len(positions) for positions in allowed)
            assert entropy[found].max() <= entropy[hidden & ~np.asarray(found)].min(initial=np.inf)


def test_confidences_match_their_definitions():
    probs = jnp.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]])
    tokens, keys = jnp.array([1, 1], jnp.int32), jax.random.split(jax.random.key(0), 2)
    expected = {
        "probability": [0.3, 0.5],
        "margin": [0.3, 0.2],
        "entropy": (np.asarray(probs) * np.log(probs)).sum(axis=1),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(CONFIDENCES[name](keys, probs, tokens), values, rtol=1e-5)
