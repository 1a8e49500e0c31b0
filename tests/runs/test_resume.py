"""Runs that are interrupted, fail or move to other devices."""

import json
import random
import signal
import time

import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests import run_folders as runs


def last_checkpoint(folder):
    steps = [int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit()]
    return max(steps, default=None)


def final_parameters(folder) -> list[np.ndarray]:
    step = last_checkpoint(folder)
    tree = ocp.StandardCheckpointer().restore(folder / "checkpoints" / str(step) / "default")
    return [np.asarray(leaf) for leaf in _leaves(tree)]


def _leaves(tree):
    if isinstance(tree, dict):
        return [leaf for key in sorted(tree) for leaf in _leaves(tree[key])]
    if isinstance(tree, list | tuple):
        return [leaf for item in tree for leaf in _leaves(item)]
    return [] if tree is None else [tree]


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


KEYS = {"steps": 60, "train__checkpoint_every": 3, "optim__ema": 0.9}


OTHERS = [{"optim__name": "muon", "model__parametrization": "completep"}, {"optim__name": "lion"}]
OTHERS += [{"optim__name": "schedule_free", "optim__decay": "constant", "optim__ema": 0.0}]


@pytest.mark.parametrize("keys", [{}, *(pytest.param(keys, marks=pytest.mark.slow) for keys in OTHERS)])
def test_resume_after_kill_is_bitwise(tmp_path, keys):
    """After SIGKILL at a random moment the same command ends with the parameters of an undisturbed run."""
    keys = KEYS | keys
    runs.train(tmp_path / "whole", **keys)
    killed = tmp_path / "killed"
    process = runs.start(killed, **keys)
    wait_for(lambda: (killed / "checkpoints").exists() and last_checkpoint(killed))
    time.sleep(random.uniform(0, 0.3))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (killed / "result.json").exists()
    out = runs.train(killed, **keys)
    for whole, resumed in zip(final_parameters(tmp_path / "whole"), final_parameters(killed), strict=True):
        np.testing.assert_array_equal(whole, resumed)
    steps = [json.loads(line)["step"] for line in (killed / "metrics.jsonl").read_text().splitlines()]
    assert steps == [*range(1, 61), 60], out  # every step once, then the validation


def test_sigterm_saves_and_exits_0(tmp_path):
    keys = KEYS | {"steps": 100_000, "train__checkpoint_every": 0}
    process = runs.start(tmp_path / "run", **keys)
    metrics = tmp_path / "run" / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") > 3)
    process.send_signal(signal.SIGTERM)
    assert "state saved" in runs.finish(process, expect=0)
    assert last_checkpoint(tmp_path / "run")


@pytest.mark.slow
def test_resume_on_fewer_devices(tmp_path):
    """Checkpoints do not depend on devices: a run on 8, 4, 2 and then 1 ends with the parameters of a whole run."""
    run = tmp_path / "run"
    for devices, stop_after in ((8, 3), (4, 6), (2, 9)):
        process = runs.start(run, devices=devices, steps=400, train__checkpoint_every=1)
        wait_for(lambda: (run / "checkpoints").exists() and (last_checkpoint(run) or 0) >= stop_after)  # noqa: B023
        process.send_signal(signal.SIGTERM)
        runs.finish(process)
        assert not (run / "result.json").exists()
    runs.train(run, steps=400, train__checkpoint_every=1)
    runs.train(tmp_path / "whole", steps=400)
    for whole, moved in zip(final_parameters(tmp_path / "whole"), final_parameters(run), strict=True):
        np.testing.assert_allclose(whole, moved, rtol=2e-3, atol=2e-4)


def test_nan_loss_stops_the_run(tmp_path):
    """The message names the learning rate and the last good checkpoint."""
    out = runs.train(
        tmp_path / "run",
        expect=1,
        steps=50,
        train__checkpoint_every=1,
        optim__lr=1e30,
        optim__clip=1e30,
        optim__warmup_min=20,
    )
    assert "learning rate 1e+30" in out and "last good checkpoint: " in out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["status"] == "failed" and "step" in result["cause"]
    assert all(np.isfinite(leaf).all() for leaf in final_parameters(tmp_path / "run"))


@pytest.mark.slow
def test_nan_step_is_skipped_if_configured(tmp_path):
    """Every step is skipped here, so the weights keep their finite initial values."""
    runs.train(
        tmp_path / "run", steps=3, optim__on_nonfinite="skip", optim__lr=1e38, optim__clip=1e38, optim__warmup_min=1
    )
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "done"
    assert all(np.isfinite(leaf).all() for leaf in final_parameters(tmp_path / "run"))


@pytest.mark.slow
def test_other_config_is_refused(tmp_path):
    runs.train(tmp_path / "run", steps=1)
    out = runs.train(tmp_path / "run", expect=2, steps=2)
    assert "steps: 1 -> 2" in out and out.count("\n") == 1
