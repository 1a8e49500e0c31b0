"""Trains a tokenizer of images: k-means of patches, VQ-VAE or FSQ, each as one pure step."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from mdlm_jax.errors import UserError
from mdlm_jax.image_tokenizers import ImageTokenizer, fsq
from mdlm_jax.image_tokenizers.autoencoder import Params, Shape, decode, encode, init_autoencoder, scaled
from mdlm_jax.image_tokenizers.codebook import Codebook, codebook_of, follow, nearest, restart_dead, straight_through
from mdlm_jax.image_tokenizers.lossless import to_patches
from mdlm_jax.image_tokenizers.store import made

BATCH = 64  # images of a step
LEARNING_RATE = 3e-3
DECAY = 0.99  # of the moving averages of a codebook
COMMITMENT = 0.25  # weight of the distance of a vector from its code
DEAD = 0.1  # vectors a batch by the moving average; a code with fewer starts again
CODE_WIDTH = 8  # numbers of a VQ-VAE's vector


class State(NamedTuple):
    """What a step changes."""

    params: Params  # of the autoencoder; empty for k-means
    optimizer: Any
    codebook: Codebook | None  # None for FSQ


class Metrics(NamedTuple):
    """Of one batch, before the step."""

    squared_error: Float[Array, ""]  # mean over pixels, whose range is 1
    codes: Int[Array, "n"]


Step = Callable[[State, PRNGKeyArray, Float[Array, "n height width channels"]], tuple[State, Metrics]]


def kmeans_step(patch: int) -> Step:
    """A step of k-means of patches by moving averages: a codebook without a network."""

    def step(state: State, key: PRNGKeyArray, images) -> tuple[State, Metrics]:
        vectors = to_patches(images, patch).reshape(-1, patch**2 * images.shape[-1])
        chosen = nearest(state.codebook.codes, vectors)
        error = jnp.mean((vectors - state.codebook.codes[chosen]) ** 2) / 4
        codebook = restart_dead(key, follow(state.codebook, vectors, chosen, DECAY), vectors, DEAD)
        return state._replace(codebook=codebook), Metrics(error, chosen)

    return step


def vqvae_step(shape: Shape, optimizer: optax.GradientTransformation) -> Step:
    """A step of VQ-VAE: gradients for the autoencoder, moving averages for the codes."""

    def step(state: State, key: PRNGKeyArray, images) -> tuple[State, Metrics]:
        def loss(params):
            vectors = encode(params, shape, images)
            flat = vectors.reshape(-1, shape.code_width)
            chosen = nearest(state.codebook.codes, flat)
            quantized = state.codebook.codes[chosen].reshape(vectors.shape)
            error = jnp.mean((decode(params, shape, straight_through(vectors, quantized)) - images) ** 2)
            commitment = jnp.mean((vectors - jax.lax.stop_gradient(quantized)) ** 2)
            return error + COMMITMENT * commitment, (error / 4, flat, chosen)

        gradients, (error, vectors, chosen) = jax.grad(loss, has_aux=True)(state.params)
        updates, after = optimizer.update(gradients, state.optimizer, state.params)
        codebook = restart_dead(key, follow(state.codebook, vectors, chosen, DECAY), vectors, DEAD)
        return State(optax.apply_updates(state.params, updates), after, codebook), Metrics(error, chosen)

    return step


def fsq_step(shape: Shape, levels: tuple[int, ...], optimizer: optax.GradientTransformation) -> Step:
    """A step of FSQ: the gradient of the squared error alone."""

    def step(state: State, key: PRNGKeyArray, images) -> tuple[State, Metrics]:
        def loss(params):
            quantized = fsq.quantize(encode(params, shape, images), levels)
            error = jnp.mean((decode(params, shape, quantized) - images) ** 2)
            return error, (error / 4, fsq.codes_of(quantized, levels).ravel())

        gradients, (error, chosen) = jax.grad(loss, has_aux=True)(state.params)
        updates, after = optimizer.update(gradients, state.optimizer, state.params)
        return State(optax.apply_updates(state.params, updates), after, None), Metrics(error, chosen)

    return step


def train_image_tokenizer(
    images: UInt8[np.ndarray, "n height width channels"],
    described: dict[str, Any],
    *,
    steps: int,
    seed: int,
    report: Callable[[int, float], None] = lambda step, error: None,
) -> ImageTokenizer:
    """Trains a tokenizer on images.

    Args:
        images: The images.
        described: The kind (kmeans, vqvae or fsq), height, width, channels and patch; size, the number of codes, of
            kmeans and vqvae; levels of fsq.
        steps: Steps of BATCH images.
        seed: Of the initial weights, the codes that start again, and the order of images.
        report: Called after every step with its number and the squared error.

    Raises:
        UserError: There are fewer patches than codes, or training diverged.
    """
    kind, patch = described["kind"], described["patch"]
    key, key_init, key_codes = jax.random.split(jax.random.key(seed), 3)
    code_width = len(described["levels"]) if kind == "fsq" else CODE_WIDTH
    shape = Shape(patch, described["channels"], code_width)
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, steps))
    params: Params = {} if kind == "kmeans" else init_autoencoder(key_init, shape)
    rng = np.random.default_rng(seed)
    codebook = None
    if kind != "fsq":
        per_image = images.shape[1] * images.shape[2] // patch**2
        some = images[rng.permutation(len(images))[: max(16 * BATCH, math.ceil(described["size"] / per_image))]]
        patches = to_patches(scaled(some), patch)
        vectors = patches if kind == "kmeans" else encode(params, shape, scaled(some))
        vectors = vectors.reshape(-1, vectors.shape[-1])
        if len(vectors) < described["size"]:
            raise UserError(
                f"--size={described['size']}: the images have {len(vectors)} patches; accepted: fewer codes"
            )
        codebook = codebook_of(key_codes, vectors, described["size"])
    steppers = {
        "kmeans": lambda: kmeans_step(patch),
        "vqvae": lambda: vqvae_step(shape, optimizer),
        "fsq": lambda: fsq_step(shape, tuple(described["levels"]), optimizer),
    }
    step, state = jax.jit(steppers[kind]()), State(params, optimizer.init(params), codebook)
    error = math.nan
    for number in range(steps):
        batch = images[rng.integers(len(images), size=BATCH)]
        state, metrics = step(state, jax.random.fold_in(key, number), scaled(batch))
        error = float(metrics.squared_error)
        report(number + 1, error)
    if not math.isfinite(error):
        raise UserError(f"--kind={kind}: the squared error of the last step is {error}; accepted: another --seed")
    arrays = {name: np.asarray(value) for name, value in state.params.items()}
    if state.codebook is not None:
        arrays["codes"] = np.asarray(state.codebook.codes)
    network = {} if kind == "kmeans" else {"network": shape._asdict()}
    return made(described | network, arrays)
