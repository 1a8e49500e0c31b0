"""Learned densities of noise levels: they follow the loss, and whatever they have learned the loss keeps its mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mdlm_jax as mj
from mdlm_jax.build.objective import learned_density, objective_label, objective_of
from mdlm_jax.errors import UserError
from mdlm_jax.exact import random_toy_distribution
from mdlm_jax.exact.oracles import expected_nats, masked_oracle
from mdlm_jax.exact.toy import entropy
from mdlm_jax.objectives import any_order
from mdlm_jax.objectives.densities import Learned, with_bins
from mdlm_jax.training.levels import BINS, Levels, bins_of, no_levels, remembered, sums_by_level
from tests.runs.here import assert_same_state, interrupt, losses_of, state_of, train_here

V, L = 3, 4
LEARNED = Learned(floor=0.2, rate=0.01)


def skewed() -> Levels:
    """Low levels have fifty times the nats of high ones, and one bin was never drawn."""
    counts = jnp.full(BINS, 1e7).at[7].set(0)
    return Levels(counts * jnp.geomspace(50.0, 1.0, BINS) ** 2, counts)


def test_density_is_in_proportion_to_the_root_mean_square():
    bins = bins_of(skewed(), LEARNED)
    density = 1 / np.asarray(bins.slope)
    learned = (density - 0.2) / 0.8
    expected = np.geomspace(50, 1, BINS)
    kept = np.arange(BINS) != 7
    np.testing.assert_allclose(learned[kept] / learned[0], expected[kept] / 50, rtol=5e-3)
    assert density.min() >= 0.2 and density.mean() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(bins_of(no_levels(), LEARNED).slope, 1, rtol=1e-5)


def test_weight_restores_integrals():
    bins = bins_of(skewed(), LEARNED)
    count = 2**20
    level, slope, number = map(np.asarray, bins.at((jnp.arange(count) + 0.5) / count))
    np.testing.assert_array_equal(number, np.minimum((level * BINS).astype(int), BINS - 1))
    for power in range(4):
        mean = (slope.astype(np.float64) * level.astype(np.float64) ** power).mean()
        np.testing.assert_allclose(mean, 1 / (power + 1), rtol=2e-5)


def test_mean_nats_on_a_toy_distribution():
    """The best network's mean is the entropy whatever density was learned."""
    toy = random_toy_distribution(0, V, L)
    changed = with_bins(any_order(V), bins_of(skewed(), LEARNED))
    mean, error = expected_nats(changed, masked_oracle(toy), toy, jax.random.key(1), 8000)
    assert error < 0.003 * entropy(toy)
    assert abs(mean - entropy(toy)) < min(3 * error, 0.003 * entropy(toy))


def test_sums_by_hand():
    new = sums_by_level(jnp.array([1.0, 2.0, jnp.nan, 3.0]), jnp.array([0, 5, 5, 5]))
    assert (new.squares[0], new.counts[0], new.squares[5], new.counts[5]) == (1, 1, 13, 2)
    again = remembered(new, new, LEARNED)
    np.testing.assert_allclose((again.squares[5], again.counts[5]), (13 * 1.99, 2 * 1.99), rtol=1e-6)


KEYS = {"steps": 30, "objective__name": "masked", "train__checkpoint_every": 15}
DENSITY = {"objective__density": "learned:rate=0.1"}


@pytest.mark.slow
def test_runs_learn_and_resume_bitwise(tmp_path):
    train_here(tmp_path / "whole", **KEYS, **DENSITY)
    train_here(tmp_path / "resumed", **KEYS, **DENSITY)
    interrupt(tmp_path / "resumed", 15)
    train_here(tmp_path / "resumed", **KEYS, **DENSITY)
    assert_same_state(tmp_path / "whole", tmp_path / "resumed")
    levels = state_of(tmp_path / "whole", 30)["levels"]
    remembered_rows = 8 * sum(0.9**step for step in range(30))
    assert np.sum(levels[1] if isinstance(levels, list) else levels["counts"]) == pytest.approx(remembered_rows)


@pytest.mark.slow
def test_step_keeps_the_mean_and_parts_the_sums(tmp_path):
    """The mean of the loss over many steps of a network that stands still; microbatches give the same losses."""
    still = {"steps": 2000, "objective__name": "masked", "optim__lr": 1e-30, "train__log_every": 1}
    uniform, learned, parted = (tmp_path / name for name in ("uniform", "learned", "parted"))
    train_here(uniform, **still)
    train_here(learned, **still, **DENSITY)
    train_here(parted, **still, **DENSITY, train__microbatches=4)
    one, other = (np.array(losses_of(folder)) for folder in (uniform, learned))
    error = np.hypot(*(losses.std() / len(losses) ** 0.5 for losses in (one, other)))
    assert abs(one.mean() - other.mean()) < min(3 * error, 0.003 * one.mean())
    np.testing.assert_allclose(losses_of(parted), other, rtol=2e-5)


def config(*arguments):
    return mj.load_config("quickstart", ["--config.objective.name=masked", *arguments])


def test_config():
    learned = config("--config.objective.density=learned:floor=0.3")
    assert objective_label(learned) == "masked-learned"
    assert learned_density(learned) == Learned(0.3, 0.01)
    assert objective_of(learned, V).bound == "upper" and learned_density(config()) is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["density=learned:floor=0"], "a floor above 0.01"),
        (["density=learned:rate=0"], "a rate above 0"),
        (["density=learned:mean=0.5"], "'mean=0.5'; accepted: floor, rate"),
        (["density=learned", "density_weighted=False"], "accepted: True with a learned density"),
        (["density=learned", "block_size=4"], "bell or clipped with blocks"),
    ],
)
def test_what_cannot_be_learned_is_refused(keys, message):
    with pytest.raises(UserError, match=message):
        objective_of(config(*(f"--config.objective.{key}" for key in keys)), V)
