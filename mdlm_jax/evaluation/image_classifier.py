"""A small classifier of images, trained here, and the Fréchet distance between its features of two sets of images."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from mdlm_jax.errors import UserError

WIDTHS = (128, 64)  # of the hidden layers; the last one gives the features
BATCH = 64  # images of a step
STEPS = 1500
LEARNING_RATE = 3e-3  # of Adam, with cosine decay
WEIGHT_DECAY = 1e-2

Params = list[dict[str, Float[Array, "..."]]]  # one of each layer


class State(NamedTuple):
    """What a step changes."""

    params: Params
    optimizer: Any


class Moments(NamedTuple):
    """The mean and the covariance of features."""

    mean: Float[np.ndarray, "d"]
    covariance: Float[np.ndarray, "d d"]


Step = Callable[[State, Float[Array, "n pixels"], Int[Array, "n"]], tuple[State, Float[Array, ""]]]


def init_classifier(key: PRNGKeyArray, pixels: int, classes: int) -> Params:
    """The weights of a perceptron with the hidden layers WIDTHS."""
    sides = (pixels, *WIDTHS, classes)
    keys = jax.random.split(key, len(sides) - 1)
    return [
        {"weight": jax.random.normal(one, (inputs, outputs)) * jnp.sqrt(2 / inputs), "bias": jnp.zeros(outputs)}
        for one, inputs, outputs in zip(keys, sides, sides[1:], strict=False)
    ]


def features_of(params: Params, images: Float[Array | np.ndarray, "n pixels"]) -> Float[Array, "n d"]:
    """The penultimate layer, after its nonlinearity. Pixels lie in [0, 1]."""
    x = jnp.asarray(images, jnp.float32)
    for layer in params[:-1]:
        x = jax.nn.gelu(x @ layer["weight"] + layer["bias"])
    return x


def class_logits(params: Params, images: Float[Array | np.ndarray, "n pixels"]) -> Float[Array, "n classes"]:
    """The logits of the classes. Pixels lie in [0, 1]."""
    return features_of(params, images) @ params[-1]["weight"] + params[-1]["bias"]


def classifier_step(optimizer: optax.GradientTransformation) -> Step:
    """A step that lowers the mean cross-entropy of a batch; it also returns those nats, before the step."""

    def step(state: State, images, labels) -> tuple[State, Float[Array, ""]]:
        def loss(params):
            return optax.softmax_cross_entropy_with_integer_labels(class_logits(params, images), labels).mean()

        nats, gradients = jax.value_and_grad(loss)(state.params)
        updates, after = optimizer.update(gradients, state.optimizer, state.params)
        return State(optax.apply_updates(state.params, updates), after), nats

    return step


def train_classifier(images: Float[np.ndarray, "n pixels"], labels: Int[np.ndarray, "n"], *, seed: int = 0) -> Params:
    """Trains a classifier for STEPS batches, drawn with replacement. Equal arguments give equal weights.

    Args:
        images: Pixels in [0, 1].
        labels: The classes, from 0.
        seed: Of the initial weights and of the batches.
    """
    optimizer = optax.adamw(optax.cosine_decay_schedule(LEARNING_RATE, STEPS), weight_decay=WEIGHT_DECAY)
    params = init_classifier(jax.random.key(seed), images.shape[1], int(labels.max()) + 1)
    chosen = np.random.default_rng(seed).integers(len(images), size=(STEPS, BATCH))
    step, pixels, classes = classifier_step(optimizer), jnp.asarray(images, jnp.float32), jnp.asarray(labels)

    @jax.jit
    def trained(state: State) -> State:
        return jax.lax.scan(lambda state, batch: step(state, pixels[batch], classes[batch]), state, chosen)[0]

    return trained(State(params, optimizer.init(params))).params


def moments_of(features: Float[Array | np.ndarray, "n d"]) -> Moments:
    """The mean and the unbiased covariance over n rows, in float64.

    Raises:
        UserError: There are fewer than two rows.
    """
    rows = np.asarray(features, np.float64)
    if len(rows) < 2:
        raise UserError(f"{len(rows)} image(s) have no covariance; accepted: 2 or more")
    return Moments(rows.mean(axis=0), np.cov(rows, rowvar=False).reshape(rows.shape[1], rows.shape[1]))


def frechet_distance(one: Moments, other: Moments) -> float:
    """The squared Fréchet distance |m - m'|^2 + tr(S + S' - 2 (S S')^(1/2)) of two Gaussians with these moments.

    Moments of n images make it too large, by about c / n: compare only distances of equal n.

    Reference: FID, arXiv 1706.08500; its bias, arXiv 1911.07023.
    """
    # the trace of (S S')^(1/2) is the sum of the singular values of S^(1/2) S'^(1/2)
    cross = np.linalg.svd(_root(one.covariance) @ _root(other.covariance), compute_uv=False).sum()
    spread = np.trace(one.covariance) + np.trace(other.covariance) - 2 * cross
    return float(((one.mean - other.mean) ** 2).sum() + spread)


def _root(covariance: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
