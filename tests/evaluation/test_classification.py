"""Which caption belongs to an image: Bayes' rule by enumeration, and ties by common noise."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.evaluation.classification import caption_nats, classified, logistic_regression
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.layers import Execution
from mdlm_jax.models.transformer import transformer
from mdlm_jax.objectives import Objective, any_order
from tests.sampling.two_modalities import IDS, TEXT, V, conditional, network


class World(NamedTuple):
    objective: Objective
    captions: np.ndarray
    images: np.ndarray
    rows: np.ndarray
    every: np.ndarray


@pytest.fixture(scope="module")
def world():
    captions, images = (np.array(list(itertools.product(*ids)), np.int32) for ids in (IDS[:2], IDS[2:]))
    rows = np.concatenate([np.zeros((len(images), 2), np.int32), images], axis=1)
    every = np.broadcast_to(captions, (len(images), *captions.shape))
    return World(any_order(V), captions, images, rows, every)


def chain(seen, target):
    """-log p of the masked part of a row, by the chain rule from left to right."""
    seen, nats = list(seen), 0.0
    for position in [position for position, token in enumerate(seen) if token == V]:
        nats -= np.log(conditional(tuple(seen))[position, target[position]])
        seen[position] = target[position]
    return nats


@pytest.mark.parametrize("task", ["text_given_image", "image_given_text", "joint"])
def test_bayes_rule(world, task):
    """With the exact network the nats of each caption tend to its own, and the likeliest caption is Bayes' choice."""
    known = np.zeros((len(world.images), len(world.captions)))
    for (i, image), (c, caption) in itertools.product(
        enumerate(world.images.tolist()), enumerate(world.captions.tolist())
    ):
        given = {"text_given_image": [V, V, *image], "image_given_text": [*caption, V, V], "joint": [V] * 4}[task]
        known[i, c] = chain(given, [*caption, *image])
    options = {"draws": 512, "batch_size": 4096, "chunk": 4}
    found = caption_nats(network(), world.objective, {"ends": {}}, (), world.rows, world.every, task, TEXT, **options)
    likely = known < 4  # the others hang on rare draws
    assert np.abs(found - known)[likely].max() < 0.25 and np.abs((found - known)[likely].mean()) < 0.03
    first, second = np.sort(known, axis=1)[:, :2].T
    clear = second - first > 0.3
    assert clear.sum() >= 5
    assert classified(found[clear], known[clear].argmin(axis=1)).accuracy == 1


def test_captions_that_look_alike_tie(world):
    """The noise of an image is the same for all its captions: a network without weights has no choice at all."""
    model = transformer(Architecture(V, 1, 8, 2, 2, 16, learned_positions=4), Execution())
    params = jax.tree.map(jnp.zeros_like, jax.jit(model.init)(jax.random.key(0)))
    for task in ("text_given_image", "image_given_text"):
        nats = caption_nats(
            model, world.objective, params, (), world.rows, world.every, task, TEXT, draws=2, batch_size=64, chunk=4
        )
        assert (nats == nats[:, :1]).all()
        assert classified(nats, np.zeros(len(nats), int)).accuracy == 1 / len(world.captions)


def test_accuracy_and_its_error():
    """Of eight rows, five right, one tied in two, two wrong."""
    nats = np.array([[1.0, 2.0]] * 5 + [[1.0, 1.0]] + [[2.0, 1.0]] * 2)
    found = classified(nats, np.zeros(8, int))
    assert (found.accuracy, found.images, found.captions) == (5.5 / 8, 8, 2)
    right = [1] * 5 + [0.5] + [0] * 2
    assert found.standard_error == pytest.approx(np.std(right, ddof=1) / np.sqrt(8))


def test_logistic_regression_is_scikit_learns():
    """Two clouds whose boundary is known."""
    pytest.importorskip("sklearn")
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 400)
    pixels = random.normal(size=(400, 2)) + 6 * labels[:, None]
    found = logistic_regression(pixels[:200], labels[:200], pixels[200:], labels[200:])
    assert found.accuracy > 0.98 and found.captions == 2
