"""Image tokens are a bijection, and the entropies of the captioned shapes are those of closed forms and of the rows."""

import itertools

import numpy as np
import pytest
from scipy.stats import chi2

from mdlm_jax.data.captioned import images_of, layout_of, open_captioned, row_of
from mdlm_jax.data.shapes import COLOURS, OPENINGS, WORDS, captioned_shapes, entropies
from mdlm_jax.data.tokenizer import open_tokenizer, save_tokenizer
from mdlm_jax.errors import UserError
from mdlm_jax.image_tokenizers.lossless import to_codes, to_images


def entropy(*probabilities):
    return -sum(p * np.log(p) for p in probabilities if p)


def test_codes_are_a_bijection():
    """Every image of 2 x 4 binary pixels has a row of codes of its own, and every row of codes an image."""
    images = np.array(list(itertools.product(range(2), repeat=8))).reshape(-1, 2, 4)
    codes = to_codes(images, 2, 2)
    assert sorted(map(tuple, codes)) == list(itertools.product(range(16), repeat=2))
    np.testing.assert_array_equal(to_images(codes, 2, 4, 2, 2), images)


@pytest.mark.parametrize(("patch", "levels"), [(1, 17), (2, 4), (3, 3)])
def test_random_images_come_back(patch, levels):
    images = np.random.default_rng(0).integers(0, levels, (50, 6, 12))
    codes = to_codes(images, patch, levels)
    assert codes.shape == (50, 72 // patch**2) and codes.max() < levels ** (patch**2)
    np.testing.assert_array_equal(to_images(codes, 6, 12, patch, levels), images)


def test_a_code_is_its_own_patch():
    """Codes go row by row: a change of one pixel changes the code of its patch alone."""
    image = np.zeros((2, 4, 4), int)
    image[1, 1, 2] = 1
    before, after = to_codes(image, 2, 2)
    assert np.flatnonzero(before != after).tolist() == [1]


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda: to_codes(np.zeros((1, 5, 6), int), 2, 2), "patch=2; accepted: a divisor"),
        (lambda: to_codes(np.full((1, 2, 2), 2), 2, 2), "pixels from 2 to 2; accepted: 0 to 1"),
        (lambda: to_images(np.full((1, 1), 16), 2, 2, 2, 2), "codes: from 16 to 16; accepted: 0 to 15"),
        (lambda: to_codes(np.zeros((1, 6, 6), int), 3, 4), "262144|4\\^9 codes"),
        (lambda: layout_of("shapes", "patch=4"), "data.path='patch=4'"),
        (lambda: layout_of("shapes", "side=2"), "data.path='side=2'; accepted: patch=1"),
        (lambda: open_captioned("shapes", "patch=2", 12), "data.sequence_length=12; accepted: 13"),
    ],
)
def test_bad_images_are_refused(call, line):
    with pytest.raises(UserError, match=line):
        call()


def test_entropies_in_closed_form():
    """A picture is a colour and 48 equally likely kinds and places; what a caption adds is drawn independently."""
    world = captioned_shapes()
    found = entropies(world.joint)
    colour, opening = entropy(*COLOURS.values()), entropy(*OPENINGS.values())
    name, kind = entropy(0.75, 0.25), entropy(0.75, 0.25)
    assert world.joint.sum() == pytest.approx(1, abs=1e-12)
    assert len(np.unique(world.images.reshape(len(world.images), -1), axis=0)) == len(world.images) == 144
    assert found.image == pytest.approx(colour + np.log(48), abs=1e-12)
    assert found.text_given_image == pytest.approx(opening + name + kind, abs=1e-12)
    assert found.joint == pytest.approx(found.image + found.text_given_image, abs=1e-12)
    said = entropy(0.25, 0.25, 0.25, 0.25)  # one of three shapes, or none
    assert found.text == pytest.approx(opening + colour + name + said + np.log(2), abs=1e-12)
    # 8 places on a side, and the shape where the caption leaves it out
    assert found.image_given_text == pytest.approx(np.log(8) + 0.25 * np.log(3), abs=1e-12)


@pytest.mark.parametrize("patch", [1, 2])
def test_rows_follow_the_distribution(patch):
    """Pearson's test of 40,000 rows, read back into pictures and captions, against the joint table."""
    world, layout = captioned_shapes(), layout_of("shapes", f"patch={patch}")
    splits = open_captioned("shapes", f"patch={patch}", layout.length)
    rows = splits.train.read(np.arange(40_000))
    pictures = {image.tobytes(): number for number, image in enumerate(world.images)}
    captions = {tuple(caption): number for number, caption in enumerate(world.captions)}
    images = images_of(layout, rows).astype(world.images.dtype)
    at = [(pictures[image.tobytes()], captions[tuple(row[:4])]) for image, row in zip(images, rows, strict=True)]
    counts = np.zeros(world.joint.shape)
    np.add.at(counts, tuple(np.transpose(at)), 1)
    assert not counts[world.joint == 0].any()
    # by picture and by caption: single cells are too rare for the test
    for axis in (0, 1):
        seen, expected = counts.sum(axis=axis), 40_000 * world.joint.sum(axis=axis)
        seen, expected = seen[expected > 0], expected[expected > 0]
        assert chi2.sf(((seen - expected) ** 2 / expected).sum(), len(seen) - 1) > 1e-3
    held_out = splits.validation.read(np.arange(100))
    assert (held_out != rows[:100]).any()
    np.testing.assert_array_equal(splits.train.read(np.array([7, 3])), rows[[7, 3]])


def test_tokenizer_writes_words_and_codes(tmp_path):
    """Text goes to a row and back, also through the file; an unknown word is one line."""
    tokenizer = open_captioned("shapes", "patch=2", 13).tokenizer
    layout = layout_of("shapes", "patch=2")
    row = row_of(layout, np.array([[0, 3, 9, 13]]), np.arange(9)[None])[0]
    assert tokenizer.decode(row) == "a red square left #0 #1 #2 #3 #4 #5 #6 #7 #8"
    np.testing.assert_array_equal(tokenizer.encode(tokenizer.decode(row)), row)
    assert tokenizer.vocab_size == layout.vocab_size == len(WORDS) + 256
    save_tokenizer(tokenizer, tmp_path)
    assert open_tokenizer(tmp_path).fingerprint == tokenizer.fingerprint
    with pytest.raises(ValueError, match="'pink'; accepted: a one the"):
        tokenizer.encode("a pink square")
