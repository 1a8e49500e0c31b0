"""A small convolutional autoencoder of images: patches to vectors, one for each patch, and back."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from mdlm_jax.image_tokenizers.lossless import from_patches, to_patches


class Shape(NamedTuple):
    """What the weights are made for."""

    patch: int  # side of a patch, pixels
    channels: int
    code_width: int  # numbers of the vector of a patch
    width: int = 64
    blocks: int = 2  # of each half; every block sees one patch further


Params = dict[str, Float[Array, "..."]]


def init_autoencoder(key: PRNGKeyArray, shape: Shape) -> Params:
    """The weights of both halves, by name. The end of each branch starts at zero."""
    pixels = shape.patch**2 * shape.channels
    sides = {"encode": (pixels, shape.code_width), "decode": (shape.code_width, pixels)}
    params: Params = {}
    for half, (inputs, outputs) in sides.items():
        for name, (fan_in, fan_out) in {"in": (inputs, shape.width), "out": (shape.width, outputs)}.items():
            key, drawn = jax.random.split(key)
            params[f"{half}.{name}"] = jax.random.normal(drawn, (fan_in, fan_out)) / jnp.sqrt(fan_in)
            params[f"{half}.{name}_bias"] = jnp.zeros(fan_out)
        for block in range(shape.blocks):
            key, drawn = jax.random.split(key)
            near = 9 * shape.width
            params[f"{half}.{block}.near"] = jax.random.normal(drawn, (near, shape.width)) / jnp.sqrt(near)
            params[f"{half}.{block}.after"] = jnp.zeros((shape.width, shape.width))
    return params


def scaled(images: UInt8[Array | np.ndarray, "*shape"]) -> Float[Array, "*shape"]:
    """Pixels in [-1, 1]."""
    return jnp.asarray(images, jnp.float32) / 127.5 - 1


def encode(
    params: Params, shape: Shape, images: Float[Array, "n height width channels"]
) -> Float[Array, "n rows columns d"]:
    """The vector of each patch of images in [-1, 1]."""
    return _half(params, "encode", shape.blocks, to_patches(images, shape.patch))


def decode(
    params: Params, shape: Shape, vectors: Float[Array, "n rows columns d"]
) -> Float[Array, "n height width channels"]:
    """The images of the vectors of their patches."""
    return from_patches(_half(params, "decode", shape.blocks, vectors), shape.patch)


def _half(
    params: Params, half: str, blocks: int, x: Float[Array, "n rows columns i"]
) -> Float[Array, "n rows columns o"]:
    x = x @ params[f"{half}.in"] + params[f"{half}.in_bias"]
    for block in range(blocks):
        near = _neighbours(jax.nn.gelu(x)) @ params[f"{half}.{block}.near"]
        x = x + jax.nn.gelu(near) @ params[f"{half}.{block}.after"]
    return x @ params[f"{half}.out"] + params[f"{half}.out_bias"]


def _neighbours(x: Float[Array, "n rows columns i"]) -> Float[Array, "n rows columns nine_i"]:
    """The 3 x 3 patches around each. A product with them is a convolution, and faster on a CPU than XLA's."""
    rows, columns = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return jnp.concatenate([padded[:, i : i + rows, j : j + columns] for i in range(3) for j in range(3)], axis=-1)
