"""Captioned digits against scikit-learn's own arrays, and what an image decides of its caption."""

import builtins

import numpy as np
import pytest
from scipy.stats import chi2

from mdlm_jax.data.captioned import images_of, known_entropies, layout_of, open_captioned
from mdlm_jax.data.digest import corpus_digest
from mdlm_jax.data.digits import FIGURES, NAMES, OPENINGS, STYLES, WORDS, load_digits, ten_captions
from mdlm_jax.errors import UserError

datasets = pytest.importorskip("sklearn.datasets")


def read(path, numbers, split="train"):
    layout = layout_of("digits", path)
    splits = open_captioned("digits", path, layout.length)
    rows = getattr(splits, split).read(numbers)
    return layout, splits, rows, [splits.tokenizer.decode(row).split()[:3] for row in rows]


def value(name):
    return NAMES.index(name) if name in NAMES else int(name)


def test_every_image_is_there_once():
    """Training and held-out images are all 1,797 of scikit-learn, pixel by pixel, and the captions name their digit."""
    known = datasets.load_digits()
    held_out = load_digits().held_out
    assert 400 < held_out.sum() < 500
    for split, chosen in (("train", ~held_out), ("validation", held_out)):
        layout, splits, rows, captions = read("patch=1", np.arange(chosen.sum()), split)
        np.testing.assert_array_equal(images_of(layout, rows), known.images[chosen])
        assert [value(name) for _, _, name in captions] == known.target[chosen].tolist()
    assert splits.validation.count == held_out.sum() and splits.train.count > 10**9


@pytest.mark.parametrize(("path", "levels"), [("patch=2,levels=4", 4), ("levels=2,patch=4", 2), ("patch=1", 17)])
def test_levels(path, levels):
    """Pixels are rounded to the nearest of equally spaced levels; the split does not depend on them."""
    layout, _, rows, _ = read(path, np.arange(300), "validation")
    pixels = datasets.load_digits().images[load_digits().held_out][:300]
    assert np.abs(images_of(layout, rows) / (levels - 1) - pixels / 16).max() <= 0.5 / (levels - 1) + 1e-9
    assert layout.vocab_size == len(WORDS) + levels ** (layout.patch**2)


def test_what_the_image_decides():
    """The style of an image is always the same word; opening and kind of name follow their chances. Pearson's test."""
    count = len(load_digits().held_out) - load_digits().held_out.sum()
    _, _, rows, captions = read("patch=1", np.arange(8 * count))
    styles = np.array([style for _, style, _ in captions]).reshape(8, count)
    assert (styles == styles[0]).all()
    assert all(0.25 < (styles[0] == style).mean() < 0.42 for style in STYLES)
    openings = [sum(first == opening for first, _, _ in captions) for opening in OPENINGS]
    figures = np.isin(rows[:, 2], FIGURES).sum()
    for seen, chances in ((openings, OPENINGS.values()), ([8 * count - figures, figures], (0.75, 0.25))):
        expected = 8 * count * np.array(list(chances))
        assert chi2.sf(((seen - expected) ** 2 / expected).sum(), len(expected) - 1) > 1e-3
    nats = -sum(p * np.log(p) for p in (0.5, 0.3, 0.2)) - sum(p * np.log(p) for p in (0.75, 0.25))
    assert known_entropies("digits", layout_of("digits", "patch=1")) == {"text_given_image": pytest.approx(nats)}


def test_ten_captions():
    """All words or all figures, as the caption's own name is; the rest stays."""
    number = {word: index for index, word in enumerate(WORDS)}
    found = ten_captions(np.array([[number[w] for w in ("the", "bold", name)] for name in ("three", "3")]))
    assert [[WORDS[index] for index in caption] for caption in found[0]] == [["the", "bold", name] for name in NAMES]
    assert [WORDS[caption[2]] for caption in found[1]] == list("0123456789")


def test_digests():
    """The levels are part of the corpus, and so are the images."""
    assert corpus_digest("digits", "patch=2, levels=4", "", "") == corpus_digest("digits", "levels=4,patch=2", "", "")
    assert corpus_digest("digits", "patch=2,levels=4", "", "") != corpus_digest("digits", "patch=2,levels=3", "", "")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("", "accepted: patch=1 or patch=2"),
        ("levels=4", "accepted: patch=1"),
        ("patch=1,levels=18", "levels=18; accepted: 2 to 17"),
        ("patch=1,levels=1", "levels >= 2"),
        ("patch=2", "17\\^4 codes"),
        ("patch=3", "a divisor of the image's sides, 8"),
        ("patch=1,patch=2", "accepted: patch=1"),
        ("patch=1,side=8", "accepted: patch=1"),
    ],
)
def test_bad_paths(path, line):
    with pytest.raises(UserError, match=line):
        layout_of("digits", path)


def test_shapes_have_their_levels():
    with pytest.raises(UserError, match="accepted: patch=1 or patch=2, the side of a patch in pixels$"):
        layout_of("shapes", "patch=2,levels=4")


def test_without_scikit_learn(monkeypatch):
    """One line says what to install; the layout needs none of it."""
    found = builtins.__import__

    def absent(name, *rest):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    assert layout_of("digits", "patch=1").length == 67
    with pytest.raises(UserError, match="needs scikit-learn; accepted: after pip install 'mdlm-jax\\[images\\]'"):
        open_captioned("digits", "patch=1", 67)
