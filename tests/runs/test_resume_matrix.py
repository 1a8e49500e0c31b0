"""A killed or stopped run, resumed with other execution settings, has the losses of the undisturbed run."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from mdlm_jax.runs.checkpoint import newest_whole
from tests import run_folders as runs
from tests.runs.here import losses_of
from tests.runs.test_resume import last_checkpoint, wait_for

STEPS, TOLERANCE = 200, 2e-5  # relative: sums are taken in another order
KEYS = {"steps": STEPS, "train__checkpoint_every": 4, "objective__name": "ar", "optim__epsilon": 1e-4}
# (devices, keys) of the resumed part: a run starts on one device with the defaults
CHANGES = [
    (4, {"train.mesh_fsdp": 4}),
    (4, {"train.mesh_data": 2, "train.mesh_fsdp": 2}),
    (2, {"train.mesh_fsdp": 1, "train.mesh_sequence": 2}),
    (2, {"train.mesh_fsdp": 1, "train.mesh_tensor": 2}),
    (2, {"train.runner": "shard_map"}),
    (2, {"train.runner": "pmap"}),
    (1, {"train.microbatches": 4}),
    (1, {"train.remat": "full"}),
    (1, {"train.attention": "blocked"}),
    (1, {"train.scan_layers": True}),
    (1, {"train.loss_chunk": 4}),
    (
        1,
        {
            "train.checkpoint_every": 7,
            "train.log_every": 3,
            "eval.batch_size": 4,
            "data.path": "vocab=8, concentration=.3",
        },
    ),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("matrix") / "whole"
    runs.train(folder, **KEYS)
    return folder


@pytest.fixture(scope="module", params=[signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def ended(request, tmp_path_factory) -> pathlib.Path:
    """A run that the signal ended; the resumed ones are copies, and share what was compiled."""
    folder = tmp_path_factory.mktemp("matrix") / "run"
    process = runs.start(folder, **KEYS)
    wait_for(lambda: (folder / "checkpoints").exists() and (last_checkpoint(folder) or 0) >= 8)
    process.send_signal(request.param)
    process.communicate()
    assert not (folder / "result.json").exists()
    return folder


def resume(folder: pathlib.Path, devices: int, keys: dict) -> None:
    words = [sys.executable, "-m", "mdlm_jax", "train", "--run", str(folder)]
    words += [f"--config.{key}={value}" for key, value in keys.items()]
    done = subprocess.run(words, env=os.environ | runs.environment(devices), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("devices", "keys"), CHANGES, ids=lambda value: str(value))
def test_resumed_run_has_the_same_losses(tmp_path, whole, ended, devices, keys):
    folder = tmp_path / "run"
    shutil.copytree(ended, folder)
    at = newest_whole(folder / "checkpoints")[0]
    resume(folder, devices, keys)
    every = keys.get("train.log_every", 1)
    steps = [line["step"] for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())]
    logged = [step for step in range(1, STEPS + 1) if step <= at + 1 or step % every == 0 or step == STEPS]
    expected = [losses_of(whole)[step - 1] for step in logged]
    assert len(steps) == len(set(steps)) + 1  # the validation
    np.testing.assert_allclose(losses_of(folder), expected, rtol=TOLERANCE)
    (change,) = json.loads((folder / "execution.json").read_text())
    assert change["step"] == at and set(keys) <= set(change["changed"])
    one, other = (json.loads((it / "result.json").read_text()) for it in (whole, folder))
    assert one["config_hash"] == other["config_hash"] and abs(one["loss"] - other["loss"]) < TOLERANCE * one["loss"]
