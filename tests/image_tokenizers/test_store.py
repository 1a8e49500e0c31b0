"""Tokenizers of images: round trips, files, and short trainings that must beat a blank image."""

import numpy as np
import pytest
import safetensors.numpy

from mdlm_jax.errors import UserError
from mdlm_jax.image_tokenizers.quality import quality
from mdlm_jax.image_tokenizers.store import made, open_image_tokenizer
from mdlm_jax.image_tokenizers.train import train_image_tokenizer

SIZES = {"height": 8, "width": 12, "channels": 3, "patch": 4}


def blocks(count, seed=0):
    """Images whose patches each have one of three colours."""
    colours = np.array([[250, 10, 10], [10, 10, 250], [200, 200, 200]], np.uint8)
    chosen = np.random.default_rng(seed).integers(3, size=(count, 2, 3))
    return np.kron(colours[chosen], np.ones((1, 4, 4, 1), np.uint8))


@pytest.mark.parametrize(("channels", "patch", "levels"), [(1, 1, 256), (1, 2, 16), (3, 1, 8), (3, 2, 2)])
def test_levels_round_trip(channels, patch, levels):
    tokenizer = made({**SIZES, "kind": "levels", "channels": channels, "patch": patch, "levels": levels}, {})
    assert tokenizer.lossless and tokenizer.vocab_size == levels ** (patch**2 * channels)
    few = np.random.default_rng(0).integers(levels, size=(5, 8, 12, channels))
    images = np.rint(few * (255 / (levels - 1))).astype(np.uint8)
    codes = tokenizer.encode(images)
    assert codes.shape == (5, tokenizer.length)
    np.testing.assert_array_equal(tokenizer.decode(codes), images)
    codes = np.random.default_rng(1).integers(tokenizer.vocab_size, size=(70, tokenizer.length))
    np.testing.assert_array_equal(tokenizer.encode(tokenizer.decode(codes)), codes)


@pytest.mark.parametrize(
    ("kind", "more", "steps", "most"),
    [
        ("kmeans", {"size": 8}, 30, 1e-4),
        ("vqvae", {"size": 8}, 60, 0.02),
        ("fsq", {"levels": [3, 3]}, 60, 0.02),
    ],
)
def test_a_trained_one_keeps_three_colours(kind, more, steps, most, tmp_path):
    images, held_out = blocks(64), blocks(70, seed=1)
    tokenizer = train_image_tokenizer(images, {**SIZES, "kind": kind, **more}, steps=steps, seed=0)
    found = quality(tokenizer, held_out)
    blank = float(np.mean(((held_out - images.mean(axis=0)) / 255) ** 2))
    assert found.squared_error < most < blank / 4, (found, blank)
    assert 3 / tokenizer.vocab_size <= found.share_used <= 1 and found.entropy >= 0.9 * np.log(3)
    (tmp_path / "file.safetensors").write_bytes(tokenizer.content)
    again = open_image_tokenizer(tmp_path / "file.safetensors")
    assert again.digest == tokenizer.digest and not again.lossless
    arrays = safetensors.numpy.load(again.content)
    for name, array in arrays.items():  # each is needed, in its shape
        for others in ({}, {name: array[:-1]}, {name: array[..., :-1]}):
            with pytest.raises(UserError, match=f"the array '{name}' is .*; accepted: "):
                made(again.described, {**{key: value for key, value in arrays.items() if key != name}, **others})
    codes = again.encode(held_out)
    np.testing.assert_array_equal(codes, tokenizer.encode(held_out))
    np.testing.assert_array_equal(codes[:3], tokenizer.encode(held_out[:3]))  # no matter how many there are
    np.testing.assert_array_equal(again.decode(codes), tokenizer.decode(codes))


def test_quality_in_closed_form():
    """Two levels of a ramp of greys: the error, the share of codes and their entropy are sums over the ramp."""
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    found = quality(
        made({**SIZES, "height": 16, "width": 16, "channels": 1, "patch": 1, "kind": "levels", "levels": 2}, {}), ramp
    )
    distance = np.minimum(np.arange(256), 255 - np.arange(256)) / 255
    assert found.squared_error == pytest.approx(np.mean(distance**2))
    assert (found.share_used, found.codes_kept, found.entropy) == (1, 1, pytest.approx(np.log(2)))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"patch": 5}, "patch=5; accepted: a divisor"),
        ({"patch": 0}, "patch=0; accepted: a divisor"),
        ({"channels": 2}, "channels=2; accepted: 1 (grey) or 3"),
        ({"height": 0}, "sides from 1 to 1024"),
        ({"size": 1}, "kmeans of 1 codes; accepted: 2 to 65,536"),
        ({"kind": "levels", "levels": 4}, "4^48 codes"),
        ({"kind": "fsq", "levels": [8, 1]}, "levels=8,1; accepted: 1 to 16 numbers from 2 on"),
        ({"kind": "fsq", "levels": [300, 300]}, "fsq of 90,000 codes"),
    ],
)
def test_bad_descriptions_are_refused(changed, named):
    with pytest.raises(UserError, match=r".*") as error:
        made({**SIZES, "kind": "kmeans", "size": 8, **changed}, {"codes": np.zeros((8, 48), np.float32)})
    assert named in str(error.value)


def test_codes_are_drawn_from_enough_images():
    """1,100 images of one patch hold 1,100 codes; the 1,024 that usually start a codebook do not."""
    images = np.random.default_rng(0).integers(256, size=(1100, 2, 2, 1)).astype(np.uint8)
    described = {"kind": "kmeans", "height": 2, "width": 2, "channels": 1, "patch": 2, "size": 1100}
    assert train_image_tokenizer(images, described, steps=1, seed=0).vocab_size == 1100
    with pytest.raises(UserError, match="the images have 1100 patches; accepted: fewer codes"):
        train_image_tokenizer(images, described | {"size": 1101}, steps=1, seed=0)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UserError, match="no such tokenizer"):
        open_image_tokenizer(tmp_path / "a")
    with pytest.raises(UserError, match="no such file"):
        open_image_tokenizer(tmp_path / "b")
