"""The worked example of docs/how-to/extend.md: one user file, checked, trained, sampled and swept."""

import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mdlm_jax as mj
from mdlm_jax.plugins import load_function
from tests.run_folders import CHEAP_FLAGS

ROOT = pathlib.Path(__file__).parents[1]


def page():
    return (ROOT / "docs" / "how-to" / "extend.md").read_text(encoding="utf-8")


@pytest.fixture
def mine(tmp_path):
    """The Python blocks of the page, as one file."""
    path = tmp_path / "mine.py"
    path.write_text("\n\n\n".join(re.findall(r"```python\n(.*?)```", page(), re.DOTALL)), encoding="utf-8")
    return path


def test_objective_bound_is_tight(mine):
    """With the best network its mean loss is the entropy."""
    make = load_function(f"{mine}:many_masks")
    toy = mj.exact.random_toy_distribution(0, vocab=3, length=3)
    objective = make(3)
    network = mj.exact.best_network(objective, toy)
    mean, error = mj.exact.expected_nats(objective, network, toy, jax.random.key(0), draws=4000)
    assert abs(mean - mj.exact.entropy(toy)) < 4 * error


def test_process_is_a_ring(mine):
    """In a short time a token moves to each neighbour at rate 2, and to no other token."""
    process = load_function(f"{mine}:ring")(5)
    moved = np.asarray(process.forward(jax.nn.one_hot(jnp.array([2]), 5), jnp.array([1e-4])))[0]
    assert np.allclose(moved[[1, 3]], 2e-4, rtol=0.01)
    assert moved[[0, 4]].max() < 1e-6


@pytest.mark.slow
def test_check_train_sample_and_sweep(mine):
    folder = mine.parent

    def mdlm_jax(*arguments):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": CHEAP_FLAGS, "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-m", "mdlm_jax", *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "FAILS" not in mdlm_jax("check", "mine.py:many_masks", "--draws", "20000")
    name = "--config.objective.name=mine.py:many_masks"
    mdlm_jax("train", "--run", "runs/a", "--config", "mine.py", name)
    assert json.loads((folder / "runs" / "a" / "result.json").read_text())["status"] == "done"
    assert "2 network evaluations" in mdlm_jax("sample", "--run", "runs/a", "--sampler", "mine.py:TwoPasses")
    mdlm_jax("sweep", "run", "mine.py")
    assert {path.parent.name for path in folder.glob("runs/mine/*/result.json")} == {
        "masked",
        "many_masks",
        "ring",
    }
