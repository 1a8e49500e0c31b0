"""Guidance by the other modality, on a network that knows a world of two words and two codes, against enumeration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2

from mdlm_jax.errors import UserError
from mdlm_jax.sampling import Confidence, FirstHitting, Trained, sample
from mdlm_jax.sampling.guidance import Weight, guided_sides, readings_without
from mdlm_jax.sampling.network import Network, logits_of, read
from tests.sampling.two_modalities import L, V, conditional, network

OF_PAIRS = Trained(text_length=2)


def guided(row, given, weight, position):
    """p_c^(1 + w) / p_u^w, normalised: u does not see what is given of the other modality."""
    is_image = np.arange(L) >= 2
    other = given & (is_image != is_image[position])
    seen = np.where(other, V, row)
    with np.errstate(divide="ignore", invalid="ignore"):
        logits = (1 + weight) * np.log(conditional(tuple(row))) - weight * np.log(conditional(tuple(seen)))
    law = np.exp(np.where(np.isfinite(logits[position]), logits[position], -np.inf))
    return law / law.sum()


PROMPTS = {
    "image_given_text": (0, 1, V, V),
    "text_given_image": (V, V, 3, 2),
    "part_of_an_image": (1, V, 4, V),  # both modalities give a token and lack one
    "image_beside_a_word": (1, V, V, V),  # the free word is guided by nothing
}


@pytest.mark.parametrize("name", PROMPTS)
@pytest.mark.parametrize("weight", [1.5, -0.5, -1.0])
def test_one_position(name, weight):
    """Every position that is to be drawn has the guided law of its own modality."""
    row = np.array(PROMPTS[name])
    tokens, given = jnp.asarray(row[None], jnp.int32), row != V
    sides = guided_sides(row[None], L, V, 2)
    without = readings_without(tokens, V, 2, sides)
    found, _ = read(
        Network(network(), (), tokens, guidance=Weight(jnp.float32(weight)), without=without), None, tokens, jnp.ones(1)
    )
    probs = np.asarray(jax.nn.softmax(logits_of(Network(network(), (), tokens), found), axis=-1))[0]
    for position in np.flatnonzero(~given):
        np.testing.assert_allclose(probs[position], guided(row, given, weight, position), atol=2e-5)


def completions(row, given, weight):
    """{row: chance} where positions are drawn one at a time in a random order, each by its guided law."""
    waiting = np.flatnonzero(row == V)
    if not len(waiting):
        return {tuple(row.tolist()): 1.0}
    found = {}
    for position in waiting:
        for token, chance in enumerate(guided(row, given, weight, position)):
            if chance > 0:
                following = completions(np.where(np.arange(L) == position, token, row), given, weight)
                for end, rest in following.items():
                    found[end] = found.get(end, 0) + chance * rest / len(waiting)
    return found


@pytest.mark.parametrize("name", PROMPTS)
@pytest.mark.parametrize(
    "sampler", [FirstHitting(guidance=2.5), Confidence(guidance=2.5, confidence="random")], ids=["hitting", "random"]
)
def test_sequential_draws(sampler, name):
    """Whole rows drawn one position at a time: Pearson's test against all orders and completions."""
    row, count = np.array(PROMPTS[name]), 4000
    known = completions(row, row != V, 2.5)
    assert sum(known.values()) == pytest.approx(1)
    drawn, _ = sample(jax.random.key(2), network(), (), np.tile(row, (count, 1)), sampler, trained=OF_PAIRS)
    ends, seen = np.unique(np.asarray(drawn), axis=0, return_counts=True)
    counts = {tuple(end): number for end, number in zip(ends.tolist(), seen.tolist(), strict=True)}
    assert counts.keys() <= known.keys()
    common = {end: count * chance for end, chance in known.items() if count * chance >= 5}
    rare = count - sum(common.values()), count - sum(counts.get(end, 0) for end in common)
    pairs = [(expected, counts.get(end, 0)) for end, expected in common.items()] + [rare] * int(rare[0] > 1)
    assert chi2.sf(sum((found - expected) ** 2 / expected for expected, found in pairs), len(pairs) - 1) > 1e-4
    free = completions(row, row != V, 0.0)  # the test can tell guidance from none
    assert sum(abs(known[end] - free.get(end, 0)) for end in known) > 0.1


def test_sides():
    """A side is guided where a row gives a token of the other one; padding is not counted."""
    assert guided_sides(np.array([[0, 1]]), L, V, 2) == ("image",)
    assert guided_sides(np.array([[V, 0, 3, 3]]), L, V, 2) == ("text",)
    assert guided_sides(np.array([[V, 0, V, 3]]), L, V, 2) == ("text", "image")
    assert guided_sides(np.array([[V, 0, V, V], [V, V, 3, 3]]), L, V, 2) == ("text", "image")
    assert guided_sides(np.array([[0, V, 3, 3]]), L, V, 0) == ("all",)
    assert guided_sides(np.array([[-1, -1, V, V, 3, V]]), 6, V, 2) == ("text",)
    assert guided_sides(np.zeros((1, 0), int), L, V, 2) == guided_sides(np.zeros((1, 0), int), L, V, 0) == ()


@pytest.mark.parametrize(
    ("sampler", "prompt", "line"),
    [
        (FirstHitting(guidance=1.0), [V, V, V, V], "no token of the other modality"),
        (FirstHitting(guidance=1.0), [0, V, 3, 3], None),
        (FirstHitting(guidance=1.0), [0, 1, 3, V], None),
        (FirstHitting(guidance_max_time=0.5), [0, 1, V, V], "guidance_max_time without guidance"),
        (FirstHitting(guidance_min_time=0.5), [0, 1, V, V], "guidance_min_time without guidance"),
        (FirstHitting(guidance=1.0, guidance_min_time=0.5, guidance_max_time=0.5), [0, 1, V, V], "min_time < max_time"),
        (FirstHitting(guidance=1.0, guidance_max_time=1.5), [0, 1, V, V], "min_time < max_time <= 1"),
        (Confidence(guidance=1.0, cache="features"), [0, 1, V, V], "not for rows of text and image"),
    ],
)
def test_requests(sampler, prompt, line):
    def draw():
        return sample(jax.random.key(0), network(), (), np.array([prompt]), sampler, trained=OF_PAIRS)

    if line is None:
        assert (np.asarray(draw()[0]) < V).all()
    else:
        with pytest.raises(UserError, match=line):
            draw()
