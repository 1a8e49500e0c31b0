"""Which image belongs to a caption, and whether drawn images are copies."""

import itertools

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.stats import mannwhitneyu

from mdlm_jax.errors import UserError
from mdlm_jax.evaluation.neighbours import memorisation, nearest
from mdlm_jax.evaluation.retrieval import retrieval, retrieval_nats, retrieved
from mdlm_jax.objectives import any_order
from tests.evaluation.test_classification import chain
from tests.sampling.two_modalities import IDS, TEXT, V, network


@pytest.mark.parametrize("task", ["text_given_image", "image_given_text"])
def test_bayes_rule(task):
    """With the exact network the likeliest image of a caption, and the reverse, are those of the enumerated law."""
    rows = np.array(list(itertools.product(*IDS)), np.int32)
    rows = rows[np.random.default_rng(0).permutation(len(rows))][:12]
    options = {"draws": 512, "batch_size": 4096, "chunk": 4}
    found = retrieval_nats(network(), any_order(V), {"ends": {}}, (), rows, 3, task, TEXT, 2, **options)
    for group, (i, j) in itertools.product(range(4), itertools.product(range(3), repeat=2)):
        text, image = rows[3 * group + i, :2].tolist(), rows[3 * group + j, 2:].tolist()
        given = [V, V, *image] if task == "text_given_image" else [*text, V, V]
        known = chain(given, [*text, *image])
        if known < 4:  # the others hang on rare draws
            assert found[group, i, j] == pytest.approx(known, abs=0.25)


def test_accuracy_both_ways():
    """Two groups of two: the first is right both ways, the second picks the first image for both captions."""
    rows = np.array([[0, 5], [1, 6], [2, 7], [3, 8]])
    nats = np.array([[[1.0, 2.0], [2.0, 1.0]], [[1.0, 2.0], [0.5, 4.0]]])
    found = retrieval(nats, rows, 1)
    assert (found.images.accuracy, found.images.chance) == (3 / 4, 1 / 2)
    assert found.captions.accuracy == 2 / 4
    assert found.images.standard_error == pytest.approx(np.std([1, 0.5], ddof=1) / np.sqrt(2))
    # with the same caption, both images are right for it
    same = retrieval(nats, np.array([[0, 5], [1, 6], [2, 7], [2, 8]]), 1)
    assert (same.images.accuracy, same.images.chance) == (1, 3 / 4)
    ties = retrieved(np.zeros((1, 2, 2)), np.eye(2, dtype=bool)[None])
    assert ties.accuracy == 0.5 and np.isnan(ties.standard_error)


def test_too_few_rows_are_refused():
    with pytest.raises(UserError, match="5 choices of 4 rows; accepted: 2 to 4"):
        retrieval_nats(
            network(), any_order(V), {}, (), np.zeros((4, 4), int), 5, "joint", TEXT, 2, draws=2, batch_size=1, chunk=4
        )


def test_nearest_is_that_of_a_tree():
    random = np.random.default_rng(0)
    training, images = random.random((2500, 6)), random.random((40, 6))
    images[7] = training[2222]
    distance, number = cKDTree(training).query(images)
    found = nearest(images, np.array_split(training, 3))
    np.testing.assert_array_equal(found.number, number)
    np.testing.assert_allclose(found.distance, distance / np.sqrt(6))
    assert found.distance[7] == 0


def test_memorisation():
    random = np.random.default_rng(0)
    drawn, held_out = random.random(30), random.random(50)
    drawn[:5] = held_out[:5]
    found = memorisation(drawn, held_out)
    assert found.drawn_nearer == pytest.approx(mannwhitneyu(held_out, drawn).statistic / (30 * 50))
    assert found.drawn_distance == np.median(drawn) and found.held_out_distance == np.median(held_out)
    copies = memorisation(np.zeros(30), held_out + 0.1)
    assert (copies.drawn_nearer, copies.drawn_near, copies.standard_error) == (1, 1, 0)
    # the error against that of many draws of both samples
    many = [memorisation(random.random(30) ** 1.3, random.random(50)).drawn_nearer for _ in range(400)]
    error = memorisation(np.linspace(0, 1, 30) ** 1.3, np.linspace(0, 1, 50)).standard_error
    assert error == pytest.approx(np.std(many), rel=0.15)
