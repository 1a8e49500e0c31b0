"""An autoregressive run continues as a block model, with its weights and the views of the recipe."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.config import from_json, load_config, to_json
from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.objectives.block import block, block_mask
from mdlm_jax.objectives.masked import masked, masked_plain
from mdlm_jax.runs.recipes import recipe_config
from mdlm_jax.runs.restore import open_run
from mdlm_jax.sampling.sample_run import sample_run
from mdlm_jax.schedules import linear
from tests import run_folders as runs

V, L, SIZE = 7, 12, 4


@functools.cache
def row_of_tokens() -> Example:
    """A random row without a prompt."""
    tokens = jax.random.randint(jax.random.key(0), (L,), 0, V)
    return Example(tokens, jnp.ones(L, jnp.int32), jnp.zeros(L, bool))


def test_shift_reads_the_previous_token():
    """With a start symbol each position reads the token before its target."""
    plain, shifted = (block(masked_plain(V, linear(), True), SIZE, L, start=start) for start in (None, V))
    here, there = (
        objective.view((), jax.random.key(1), row_of_tokens(), jnp.float32(0.3)) for objective in (plain, shifted)
    )
    assert there.tokens.shape == (2, 2 * L + 2) and there.targets.shape == (2, L)
    for half in range(2):
        np.testing.assert_array_equal(there.tokens[:, half * (L + 1)], V)
        old, new = half * L + np.arange(L), half * (L + 1) + 1 + np.arange(L)
        np.testing.assert_array_equal(there.tokens[:, new], here.tokens[:, old])
    np.testing.assert_array_equal(there.weight, here.weight)
    # a view and its complement score every token once, and the loss is their mean
    np.testing.assert_array_equal(there.weight.mean(axis=0), 1)
    np.testing.assert_array_equal(there.positions[0, :, 0], np.tile(np.arange(L + 1), 2))


def test_shifted_block_mask():
    """The expected mask follows from the token that each position reads; -1 is the start symbol."""
    place = np.arange(2 * L + 2)
    token, clean = place % (L + 1) - 1, place > L
    number = np.floor_divide(token, SIZE)
    expected = np.zeros((2 * L + 2, 2 * L + 2), bool)
    for query in place:
        for key in place:
            own = clean[query] == clean[key] and number[query] == number[key]
            before = clean[key] and number[key] < number[query]
            expected[query, key] = own or before
    np.testing.assert_array_equal(block_mask(SIZE, L, 1)(place[:, None], place[None]), expected)


def test_shared_noise_level():
    """All blocks of a row have one noise level."""
    objective = block(masked(V, linear()), SIZE, L, shared_level=True)
    view = objective.view((), jax.random.key(1), row_of_tokens(), jnp.float32(0.3))
    assert np.unique(view.t[0, :L]).size == 1 and np.unique(view.weight[view.weight > 0]).size == 1
    assert objective.bound == "upper"


def test_invalid_recipe_input_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(runs_config("masked"))
    for recipe, message in (
        ("sdr", "--recipe=sdr; accepted: diffullama, dream"),
        ("sdar", "an autoregressive network"),
    ):
        with pytest.raises(UserError, match=message):
            recipe_config(tmp_path, recipe, [])
    (tmp_path / "config.json").write_text(runs_config("ar"))
    with pytest.raises(UserError, match="no checkpoint; accepted: a run that has saved one"):
        recipe_config(tmp_path, "sdar", [])
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    with pytest.raises(UserError, match="the nearest is config.optim.lr"):
        recipe_config(tmp_path, "sdar", ["--config.optim.lrr=1"])
    with pytest.raises(UserError, match="accepted: float"):
        recipe_config(tmp_path, "sdar", ["--config.optim.lr=fast"])
    config = recipe_config(tmp_path, "sdar", ["--config.objective.block_size=8", "--config.steps=3"])
    assert (config.objective.block_size, config.steps, config.objective.name) == (8, 3, "masked")


def runs_config(objective: str) -> str:
    return to_json(load_config(str(runs.ROOT / "configs" / "base.py"), [f"--config.objective.name={objective}"]))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["sdar", "fastdllm_v2"])
def test_ar_run_continues_in_blocks(tmp_path, recipe):
    runs.train(tmp_path / "ar", steps=3, objective__name="ar")
    options = ["--from", str(tmp_path / "ar"), "--recipe", recipe, "--config.objective.block_size=4"]
    train = [sys.executable, "-m", "mdlm_jax", "train", "--run", str(tmp_path / "new")]
    for command in ([*train, *options, "--config.optim.lr=1e-9"], train):  # the second finds nothing to do
        done = subprocess.run(command, env=runs.environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    donor, new = open_run(tmp_path / "ar"), open_run(tmp_path / "new")
    assert new.config.objective.block_size == 4 and from_json(tmp_path / "new" / "config.json").start_from
    for old, now in zip(jax.tree.leaves(donor.params), jax.tree.leaves(new.params), strict=True):
        np.testing.assert_allclose(old, now, atol=1e-7)
    heading, row = next(sample_run(tmp_path / "new", prompts=["1 0 1 1 2"], sampler="confidence")).splitlines()
    assert row.startswith("1 0 1 1 2") and len(row.split()) == 16
    # one for the block of the prompt, 11 hidden tokens, two blocks that are finished
    assert heading == "--- 0: 14 network evaluations"
