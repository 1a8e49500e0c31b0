"""A tokenizer of images from its description and arrays, and as a safetensors file."""

import functools
import hashlib
import json
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import safetensors.numpy

from mdlm_jax.errors import UserError, one_line
from mdlm_jax.files import expand_home
from mdlm_jax.image_tokenizers import ImageTokenizer
from mdlm_jax.image_tokenizers.lossless import (
    MOST_CODES,
    check_patches,
    check_tiling,
    from_patches,
    to_codes,
    to_images,
    to_patches,
)

KINDS = ("levels", "kmeans", "vqvae", "fsq")
METADATA = "mdlm_jax.image_tokenizer"
AT_ONCE = 64  # images that a network reads; a constant, so that codes do not depend on how many there are
MOST_SIDE = 1024  # pixels
NETWORK = {"patch", "channels", "code_width", "width", "blocks"}  # the fields of autoencoder.Shape


def check_described(described: dict[str, Any]) -> None:
    """Checks the description of a tokenizer.

    Raises:
        UserError: Sides that patches do not tile, or a number of codes, or of levels, that is out of range.
    """
    kind, channels, patch = described["kind"], described["channels"], described["patch"]
    height, width = described["height"], described["width"]
    if kind not in KINDS:
        raise UserError(f"kind={kind!r}; accepted: {', '.join(KINDS)}")
    if not 1 <= height <= MOST_SIDE or not 1 <= width <= MOST_SIDE:
        raise UserError(f"images of {height} x {width} pixels; accepted: sides from 1 to {MOST_SIDE}")
    if channels not in (1, 3):
        raise UserError(f"channels={channels}; accepted: 1 (grey) or 3 (colour)")
    if kind == "levels":
        check_patches(height, width, patch, described["levels"], channels)
        return
    check_tiling(height, width, patch)
    levels = described.get("levels", ())
    if kind == "fsq" and (not 1 <= len(levels) <= 16 or min(levels) < 2 or max(levels) > MOST_CODES):
        raise UserError(f"levels={','.join(map(str, levels))}; accepted: 1 to 16 numbers from 2 on, as in 8,5,5,5")
    size = num_codes(described)
    if not 2 <= size <= MOST_CODES:
        raise UserError(f"{kind} of {size:,} codes; accepted: 2 to {MOST_CODES:,}")


def num_codes(described: dict[str, Any]) -> int:
    """V_i, the number of codes of a tokenizer with this description."""
    if described["kind"] == "levels":
        return described["levels"] ** (described["patch"] ** 2 * described["channels"])
    return math.prod(described["levels"]) if described["kind"] == "fsq" else described["size"]


def _shapes(described: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape of each array of a tokenizer with this description."""
    if described["kind"] == "levels":
        return {}
    if described["kind"] == "kmeans":
        return {"codes": (described["size"], described["patch"] ** 2 * described["channels"])}
    network = described["network"]
    sides = {"patch": described["patch"], "channels": described["channels"]}
    if described["kind"] == "fsq":
        sides["code_width"] = len(described["levels"])
    if network.keys() != NETWORK or any(network[name] != side for name, side in sides.items()):
        raise UserError(f"a network of {network}; accepted: {', '.join(sorted(NETWORK))}, with {sides}")
    pixels, width, code_width = network["patch"] ** 2 * network["channels"], network["width"], network["code_width"]
    shapes = {} if described["kind"] == "fsq" else {"codes": (described["size"], code_width)}
    for half, inputs, outputs in (("encode", pixels, code_width), ("decode", code_width, pixels)):
        shapes |= {f"{half}.in": (inputs, width), f"{half}.in_bias": (width,)}
        shapes |= {f"{half}.out": (width, outputs), f"{half}.out_bias": (outputs,)}
        for block in range(network["blocks"]):
            shapes |= {f"{half}.{block}.near": (9 * width, width), f"{half}.{block}.after": (width, width)}
    return shapes


def made(described: dict[str, Any], arrays: dict[str, np.ndarray]) -> ImageTokenizer:
    """A tokenizer from its description and its arrays.

    Raises:
        UserError: The description is out of range, or the arrays are others than it says.
    """
    check_described(described)
    found, expected = {name: array.shape for name, array in arrays.items()}, _shapes(described)
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            given = f"{list(found[name])}" if name in found else "missing"
            accepted = f"{list(expected[name])}" if name in expected else "without it"
            raise UserError(f"{described['kind']}: the array {name!r} is {given}; accepted: {accepted}")
    metadata = {METADATA: json.dumps(described, sort_keys=True)}
    content = safetensors.numpy.save(arrays, metadata)
    encode, decode = (_levels if described["kind"] == "levels" else _learned)(described, arrays)
    return ImageTokenizer(described, num_codes(described), encode, decode, content, hashlib.sha256(content).hexdigest())


def open_image_tokenizer(path: str | os.PathLike) -> ImageTokenizer:
    """Opens the file of a tokenizer of images.

    Raises:
        UserError: It is missing, damaged, or another kind of file.
    """
    path = expand_home(path)
    if not path.is_file():
        raise UserError(
            f"tokenizer of images {path}: no such file; accepted: what `mdlm-jax data image-tokenizer` wrote"
        )
    try:
        with safetensors.safe_open(path, "np") as file:
            described = json.loads(file.metadata()[METADATA])
            return made(described, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118  no dict
    except UserError as error:
        raise UserError(f"tokenizer of images {path} is damaged: {error}") from error
    except Exception as error:  # safetensors raises a type of its own, without a base
        raise UserError(f"tokenizer of images {path}: no such tokenizer ({one_line(error)})") from error


def _levels(described: dict[str, Any], arrays: dict[str, np.ndarray]) -> tuple[Callable, Callable]:
    """A bijection of images of few levels."""
    levels, patch, channels = described["levels"], described["patch"], described["channels"]
    height, width = described["height"], described["width"]

    def encode(images):
        few = np.rint(images.astype(np.float64) * ((levels - 1) / 255)).astype(np.int64)
        return to_codes(few, patch, levels)

    def decode(codes):
        few = to_images(np.asarray(codes), height, width, patch, levels, channels)
        return np.rint(few * (255 / (levels - 1))).astype(np.uint8)

    return encode, decode


def _learned(described: dict[str, Any], arrays: dict[str, np.ndarray]) -> tuple[Callable, Callable]:
    """The codes nearest to the patches, or to the vectors of an encoder."""
    side = described["patch"]
    grid = described["height"] // side, described["width"] // side

    @functools.cache
    def compiled() -> tuple[Callable, Callable]:
        # a tokenizer of text is opened by processes that need no jax
        import jax
        import jax.numpy as jnp

        from mdlm_jax.image_tokenizers import autoencoder, fsq
        from mdlm_jax.image_tokenizers.codebook import nearest

        params = {name: jnp.asarray(value) for name, value in arrays.items()}
        codes = params.pop("codes", None)
        shape = autoencoder.Shape(**described["network"]) if "network" in described else None

        def to_vectors(images):
            x = autoencoder.scaled(images)
            return autoencoder.encode(params, shape, x) if shape else to_patches(x, side)

        def encode(images):
            vectors = to_vectors(images)
            if codes is None:
                levels = described["levels"]
                return fsq.codes_of(fsq.quantize(vectors, levels), levels).reshape(len(images), -1)
            return nearest(codes, vectors.reshape(-1, vectors.shape[-1])).reshape(len(images), -1)

        def decode(ids):
            ids = ids.reshape(-1, *grid)
            vectors = fsq.vectors_of(ids, described["levels"]) if codes is None else codes[ids]
            x = autoencoder.decode(params, shape, vectors) if shape else from_patches(vectors, side)
            return jnp.clip(jnp.round((x + 1) * 127.5), 0, 255).astype(jnp.uint8)

        return jax.jit(encode), jax.jit(decode)

    return lambda images: _by_parts(compiled()[0], images), lambda codes: _by_parts(compiled()[1], np.asarray(codes))


def _by_parts(of: Callable, rows: np.ndarray) -> np.ndarray:
    """A function of AT_ONCE rows, over all of them; the last part is filled up with zeros."""
    parts = []
    for first in range(0, max(len(rows), 1), AT_ONCE):
        part = rows[first : first + AT_ONCE]
        filled = np.zeros((AT_ONCE, *rows.shape[1:]), rows.dtype)
        filled[: len(part)] = part
        parts.append(np.asarray(of(filled))[: len(part)])
    return np.concatenate(parts)
