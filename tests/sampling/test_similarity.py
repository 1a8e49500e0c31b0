"""Keys and values of one frame and the next, compared."""

import functools

import jax
import numpy as np
import pytest

from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.sampling.similarity import key_value_similarity

V, L = 7, 6


@functools.cache
def network():
    return transformer(Architecture(V, 2, 16, 2, 2, 24), Execution())


@functools.cache
def params():
    return network().init(jax.random.key(0))


@pytest.mark.slow
def test_unchanged_frames_have_similarity_one():
    frame = np.full((2, L), V)
    keys, values = key_value_similarity(network(), params(), [frame, frame])
    assert keys.shape == values.shape == (1, 2, L)
    np.testing.assert_allclose(keys, 1, rtol=1e-5)
    np.testing.assert_allclose(values, 1, rtol=1e-5)


def test_first_layer_depends_on_its_own_token_alone():
    frame = np.full((2, L), V)
    other = frame.copy()
    other[:, 2] = 3
    keys, values = key_value_similarity(network(), params(), [frame, other, frame])
    for field in (keys, values):
        np.testing.assert_allclose(np.delete(field[:, 0], 2, axis=1), 1, rtol=1e-5)
        assert (field[:, 0, 2] < 0.99).all() and (field[:, 1] < 1 - 1e-6).all()
        np.testing.assert_allclose(field[0], field[1], rtol=1e-5)  # a cosine is symmetric
