"""Rotary coordinates and learned vectors of rows of text and image, by what their definitions say of scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.costs.flops import num_parameters
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.attention import rotate
from mdlm_jax.models.layers import Execution
from mdlm_jax.models.modalities import is_image, rotary_coordinates
from mdlm_jax.models.parametrization import rule_of
from mdlm_jax.models.transformer import transformer
from mdlm_jax.objectives.base import full
from mdlm_jax.sampling.network import reading

WORDS, ROWS, COLUMNS, HEAD = 3, 4, 5, 16
GRID = Architecture(
    11,
    layers=2,
    width=32,
    heads=2,
    key_value_heads=2,
    mlp_width=32,
    text_length=WORDS,
    image_columns=COLUMNS,
    image_rope="2d",
    modality_embedding=True,
)


def vectors(count=1):
    return jax.random.normal(jax.random.key(0), (2, 1, count, 1, HEAD))


def scores(architecture, rows=ROWS, q_and_k=None):
    """q.k of every pair of positions, where all have the same query and the same key."""
    length = architecture.text_length + rows * architecture.image_columns
    coordinates = rotary_coordinates(architecture, jnp.arange(length)[None, :, None])
    q, k = jnp.broadcast_to(vectors() if q_and_k is None else q_and_k, (2, 1, length, 1, HEAD))
    return np.asarray(jnp.einsum("bqhd,bkhd->qk", *(rotate(x, coordinates, 1e4) for x in (q, k))))


def test_scores_of_patches_depend_on_both_distances_alone():
    """Those of words on their distance; and with no words, of a patch of row r and column c to itself shifted."""
    found = scores(GRID)
    image = found[WORDS:, WORDS:].reshape(ROWS, COLUMNS, ROWS, COLUMNS)
    np.testing.assert_allclose(image[1:, 1:, 1:, 1:], image[:-1, :-1, :-1, :-1], atol=2e-5)
    np.testing.assert_allclose(found[1:WORDS, 1:WORDS], found[: WORDS - 1, : WORDS - 1], atol=2e-5)
    assert len(np.unique(image[1, 1].round(3))) > ROWS * COLUMNS - 4  # but for rounding, all distances differ
    for way in (image[:, 0, :, 0], image[0, :, 0, :]):
        assert np.ptp(way[0]) > 0.1


def test_transposed_grid_with_exchanged_halves_is_the_same():
    found = scores(GRID)[WORDS:, WORDS:].reshape(ROWS, COLUMNS, ROWS, COLUMNS)
    halves = vectors().reshape(2, 1, 1, 1, 2, 2, HEAD // 4)  # (first and second of a pair, row and column)
    exchanged = halves[..., ::-1, :].reshape(2, 1, 1, 1, HEAD)
    other = scores(GRID._replace(image_columns=ROWS), COLUMNS, exchanged)[WORDS:, WORDS:]
    turned = other.reshape(COLUMNS, ROWS, COLUMNS, ROWS).transpose(1, 0, 3, 2)
    np.testing.assert_allclose(found, turned, atol=2e-5)


def test_image_of_one_row_is_1d_with_half_of_the_frequencies():
    """RoFormer's angles, of a head of half the width, turn the columns' half; the other half is not turned."""
    found = scores(GRID, rows=1)[WORDS:, WORDS:]
    q, k = (vector.reshape(2, 2, HEAD // 4) for vector in np.asarray(vectors(), np.float64))
    distance = np.arange(COLUMNS)[:, None, None] - np.arange(COLUMNS)[:, None]
    angle = distance * 1e4 ** (-np.arange(HEAD // 4) / (HEAD // 4))
    (q1, q2), (k1, k2) = q[:, 1], k[:, 1]
    turned = (q1 * k1 + q2 * k2) * np.cos(angle) + (q2 * k1 - q1 * k2) * -np.sin(angle)
    np.testing.assert_allclose(found, turned.sum(axis=-1) + (q[:, 0] * k[:, 0]).sum(), atol=2e-5)


def test_twice_the_side_spans_the_same():
    """Every second patch of an image of twice the side lies where the patches of the small one lay."""
    large = GRID._replace(image_columns=2 * COLUMNS, image_rope_factor=2.0)
    found = scores(large, 2 * ROWS)[WORDS:, WORDS:].reshape(2 * ROWS, 2 * COLUMNS, 2 * ROWS, 2 * COLUMNS)
    small = scores(GRID)[WORDS:, WORDS:].reshape(ROWS, COLUMNS, ROWS, COLUMNS)
    np.testing.assert_allclose(found[::2, ::2, ::2, ::2], small, atol=2e-5)
    assert large.for_any_image == GRID.for_any_image


def read(architecture, params, tokens):
    model = transformer(architecture, Execution())
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)[..., None]
    view = reading(tokens, positions, positions, jnp.zeros(len(tokens)))
    return np.asarray(model.head(params, model.hidden(params, view, full)[0]))


def test_modality_is_a_row_of_the_embedding():
    """Without rotation, the network whose vectors of text and image are in its embedding is the same."""
    plain = GRID._replace(rope_base=0.0, image_rope="1d")
    params = jax.jit(transformer(plain, Execution()).init)(jax.random.key(1))
    ends = dict(params["ends"])
    text, image = ends.pop("modalities")
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == num_parameters(plain).total
    tokens = jnp.array([[0, 1, 4, *range(5, 11), *range(5, 11)]])  # ids below 5 are words
    table = ends["embedding"]["embedding"] + jnp.where(jnp.arange(12)[:, None] < 5, text, image)
    other = {**params, "ends": {**ends, "embedding": {"embedding": table}}}
    np.testing.assert_allclose(
        read(plain, params, tokens), read(plain._replace(modality_embedding=False), other, tokens), atol=1e-5
    )
    assert (
        np.abs(read(plain._replace(modality_embedding=False), params, tokens) - read(plain, params, tokens)).max()
        > 0.01
    )


def test_masks_are_told_apart_without_learned_positions():
    """In a row of masks, each position of the image has logits of its own, and so has each word."""
    params = jax.jit(transformer(GRID, Execution()).init)(jax.random.key(1))
    found = read(GRID, params, jnp.full((1, WORDS + ROWS * COLUMNS), 11))[0]
    apart = np.abs(found[:, None] - found[None]).max(axis=-1)
    assert apart[~np.eye(len(found), dtype=bool)].min() > 1e-4
    same = read(GRID._replace(modality_embedding=False), params, jnp.full((1, 23), 11))[0]
    assert np.ptp(same, axis=0).max() < 1e-4


def test_vectors_of_modalities_follow_the_rules_of_the_embedding():
    wide = GRID._replace(parametrization="completep", width=128, layers=4)
    assert rule_of(wide, ("ends", "modalities")) == rule_of(wide, ("ends", "embedding", "embedding"))
    assert np.asarray(is_image(GRID, jnp.array([[0, 9], [4, 2], [-1, 3]]))).tolist() == [True, False, True]


@pytest.mark.parametrize("scan", [False, True])
def test_gradient_reaches_both_vectors(scan):
    model = transformer(GRID, Execution(scan_layers=scan))
    params = jax.jit(model.init)(jax.random.key(1))
    positions = jnp.arange(23)[None, :, None]
    view = reading(jnp.arange(23)[None] % 11, positions, positions, jnp.zeros(1))
    slope = jax.jit(jax.grad(lambda params: model.head(params, model.hidden(params, view, full)[0])[..., 0].sum()))
    assert (np.abs(np.asarray(slope(params)["ends"]["modalities"])).max(axis=-1) > 0).all()
