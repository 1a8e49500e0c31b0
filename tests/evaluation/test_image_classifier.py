"""The Fréchet distance against closed forms, and the classifier against scikit-learn's logistic regression."""

import jax
import numpy as np
import optax
import pytest

from mdlm_jax.data.digits import load_digits
from mdlm_jax.errors import UserError
from mdlm_jax.evaluation.classification import logistic_regression
from mdlm_jax.evaluation.image_classifier import (
    Moments,
    State,
    class_logits,
    classifier_step,
    features_of,
    frechet_distance,
    init_classifier,
    moments_of,
    train_classifier,
)


@pytest.fixture
def gaussian():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(5, 5))
    return Moments(rng.normal(size=5), rows @ rows.T)


def test_equal_gaussians_have_distance_0(gaussian):
    assert frechet_distance(gaussian, gaussian) == pytest.approx(0, abs=1e-10)


def test_a_shifted_mean(gaussian):
    """|shift|^2 = 1 + 4 + 9."""
    shifted = gaussian._replace(mean=gaussian.mean + [1, -2, 3, 0, 0])
    assert frechet_distance(gaussian, shifted) == pytest.approx(14, rel=1e-10)


def test_a_scaled_covariance(gaussian):
    """S and c^2 S: tr(S + c^2 S - 2 c S) = (c - 1)^2 tr S."""
    scaled = gaussian._replace(covariance=9 * gaussian.covariance)
    assert frechet_distance(gaussian, scaled) == pytest.approx(4 * np.trace(gaussian.covariance), rel=1e-10)


def test_covariances_that_do_not_commute():
    """In two dimensions tr M^(1/2) = (tr M + 2 (det M)^(1/2))^(1/2), here with M = S S'."""
    one, other = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.7], [-0.7, 3.0]])
    root = np.sqrt(np.trace(one @ other) + 2 * np.sqrt(np.linalg.det(one @ other)))
    expected = np.trace(one + other) - 2 * root
    found = frechet_distance(Moments(np.zeros(2), one), Moments(np.zeros(2), other))
    assert found == pytest.approx(expected, rel=1e-10)
    assert found == pytest.approx(frechet_distance(Moments(np.zeros(2), other), Moments(np.zeros(2), one)))


def test_the_bias_in_n():
    """One feature of variance 1: the means differ by 2 / n, the deviations by 1 / n, squared: about 3 / n in all."""
    rng, n = np.random.default_rng(1), 50
    rows = rng.normal(size=(4000, 2, n, 1))
    found = np.array([frechet_distance(moments_of(one), moments_of(other)) for one, other in rows])
    assert abs(found.mean() - 3 / n) < 4 * found.std() / np.sqrt(len(found)) + 3 / n**2


def test_one_image_has_no_covariance():
    with pytest.raises(UserError, match="1 image.s. have no covariance; accepted: 2 or more"):
        moments_of(np.zeros((1, 3)))


def test_the_logits_are_linear_in_the_features():
    params = init_classifier(jax.random.key(0), 6, 3)
    images = np.random.default_rng(0).random((4, 6))
    expected = np.asarray(features_of(params, images)) @ params[-1]["weight"] + params[-1]["bias"]
    np.testing.assert_allclose(class_logits(params, images), expected, rtol=1e-6)


def test_a_step_moves_by_the_gradient_of_the_cross_entropy():
    """Of the last bias it is the mean of the probabilities less the labels."""
    params = init_classifier(jax.random.key(0), 6, 3)
    images, labels = np.random.default_rng(0).random((4, 6)), np.array([0, 2, 2, 1])
    optimizer = optax.sgd(1.0)
    after, nats = classifier_step(optimizer)(State(params, optimizer.init(params)), images, labels)
    law = np.asarray(jax.nn.softmax(class_logits(params, images)))
    expected = (law - np.eye(3)[labels]).mean(axis=0)
    np.testing.assert_allclose(params[-1]["bias"] - after.params[-1]["bias"], expected, atol=1e-6)
    assert nats == pytest.approx(-np.log(law[np.arange(4), labels]).mean(), rel=1e-5)


def test_held_out_digits():
    """It reads more of the digits that it has not seen than logistic regression does."""
    pytest.importorskip("sklearn")
    digits = load_digits()
    pixels, seen = digits.images.reshape(-1, 64) / 16, ~digits.held_out
    params = train_classifier(pixels[seen], digits.labels[seen])
    right = np.asarray(class_logits(params, pixels[~seen])).argmax(axis=1) == digits.labels[~seen]
    baseline = logistic_regression(pixels[seen], digits.labels[seen], pixels[~seen], digits.labels[~seen])
    assert right.mean() > baseline.accuracy > 0.94
