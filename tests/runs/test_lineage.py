"""Three declared ways to continue training: extend a run, branch from a checkpoint, start from weights."""

import shutil

import jax
import numpy as np
import pytest

from mdlm_jax.build import build, plan
from mdlm_jax.errors import UserError
from mdlm_jax.runs.checkpoint import open_checkpoints
from mdlm_jax.runs.first_state import first_state
from mdlm_jax.runs.result import read_result
from mdlm_jax.training.dispatch import stacked
from mdlm_jax.training.sharding import RUNNERS
from mdlm_jax.training.step import make_train_step
from tests.runs.here import assert_same_state, config_of, state_of, train_here

KEYS = {"steps": 6, "train__checkpoint_every": 2, "objective__name": "ar", "optim__ema": 0.9}


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lineage") / "parent"
    train_here(folder, **KEYS)
    return folder


def scheduled_steps(folder, step):
    return float(state_of(folder, step)["opt_state"]["hyperparams"]["total_steps"])


def test_branch_restores_the_whole_state(parent, tmp_path):
    """With the parent's config a branch takes the parent's steps, bitwise."""
    result = train_here(tmp_path / "branch", **KEYS, branch_from=f"{parent}@4")
    assert_same_state(tmp_path / "branch", parent)
    planned = plan(config_of(**KEYS))
    assert (result.parent, result.kinship, result.birth_step) == ("parent", "branch", 4)
    assert result.inherited_tokens == 4 * planned.tokens_per_step and result.own_tokens == 2 * planned.tokens_per_step
    assert result.tokens == 6 * planned.tokens_per_step == read_result(parent / "result.json").tokens
    assert result.own_flops["exact"] == pytest.approx(2 * planned.flops_per_step.exact)


def test_branch_may_change_the_optimizer(parent, tmp_path):
    """The branch resumes after its parent is deleted."""
    shutil.copytree(parent, tmp_path / "parent")
    keys = KEYS | {"branch_from": f"{tmp_path / 'parent'}@4", "optim__lr": 1e-9, "optim__weight_decay": 0.0}
    train_here(tmp_path / "branch", **keys)
    shutil.rmtree(tmp_path / "parent")
    (tmp_path / "branch" / "result.json").unlink()
    assert train_here(tmp_path / "branch", **keys).parent == "parent"
    before, after = state_of(parent, 4)["params"], state_of(tmp_path / "branch", 6)["params"]
    jax.tree.map(lambda old, new: np.testing.assert_allclose(old, new, atol=1e-7), before, after)


@pytest.mark.few(1)
@pytest.mark.parametrize("schedule", ["hold", "replan"])
def test_extension_equals_the_longer_run(parent, tmp_path, schedule):
    """With a constant learning rate they are equal bitwise."""
    keys = KEYS | {"optim__decay": "constant"}
    train_here(tmp_path / "run", **keys)
    result = train_here(tmp_path / "run", extension=schedule, **keys | {"steps": 8})
    train_here(tmp_path / "long", **keys | {"steps": 8})
    states = [state_of(tmp_path / name, 8) for name in ("run", "long")]
    for part in ("params", "ema", "phi", "step", "key"):
        jax.tree.map(np.testing.assert_array_equal, states[0][part], states[1][part])
    assert result.steps == 8 and result.parent == ""
    assert scheduled_steps(tmp_path / "run", 8) == (6 if schedule == "hold" else 8)


def test_extension_must_be_declared(parent, tmp_path):
    shutil.copytree(parent, tmp_path / "run")
    with pytest.raises(
        UserError, match="differs in steps: 6 -> 8; choose another --run, or make this one longer with --extend$"
    ):
        train_here(tmp_path / "run", **KEYS | {"steps": 8})
    for keys, message in (
        ({"steps": 4}, "4 steps; accepted: more than the 6"),
        ({"steps": 8, "optim__lr": 1.0}, "--extend changes optim.lr: 0.01 -> 1.0; accepted: steps or budget alone"),
    ):
        with pytest.raises(UserError, match=message):
            train_here(tmp_path / "run", extension="hold", **KEYS | keys)


def test_inherited_tokens_are_counted(parent, tmp_path):
    """A run that starts from weights counts the tokens that trained them."""
    result = train_here(tmp_path / "run", **KEYS | {"steps": 2}, start_from=str(parent))
    planned = plan(config_of(**KEYS))
    assert (result.parent, result.kinship, result.birth_step) == ("parent", "weights", 6)
    assert result.tokens == 8 * planned.tokens_per_step and result.own_tokens == 2 * planned.tokens_per_step
    grandchild = train_here(tmp_path / "next", **KEYS | {"steps": 2}, start_from=str(tmp_path / "run"))
    assert grandchild.inherited_tokens == 8 * planned.tokens_per_step


def test_resume_keeps_the_initial_values(parent, tmp_path):
    """A step donates its state, so the state must hold copies: a rewind reads the originals again."""
    built = build(config_of(**KEYS))
    runner = RUNNERS["jit"][0](
        make_train_step(built.model, built.objective, built.optimizer, built.options), built.mesh
    )
    with open_checkpoints(parent / "checkpoints") as checkpoints:
        _, state = first_state(config_of(**KEYS), built, runner, parent, checkpoints)
    runner.steps(state, runner.place(stacked([built.data.batch(6)])), 1)
    assert float(built.initial[1]["total_steps"]) == 6


def test_missing_branch_checkpoint_is_refused(parent, tmp_path):
    with pytest.raises(UserError, match=r"accepted: one of the checkpoints of steps \[4, 6\]"):
        train_here(tmp_path / "run", **KEYS, branch_from=f"{parent}@5")
    with pytest.raises(UserError, match="accepted: FOLDER@STEP"):
        train_here(tmp_path / "run", **KEYS, branch_from=str(parent))
    assert not (tmp_path / "run").exists()
