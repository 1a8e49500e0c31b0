"""A killed or stopped run, resumed with other execution settings, has the losses of the undisturbed run."""

import json
import pathlib
import shutil
import signal
import subprocess
import sys
from collections import defaultdict

import numpy as np
import pytest

from mdlm_jax.runs.saved import newest_whole
from tests import run_folders as runs
from tests.runs.here import losses_of
from tests.runs.test_resume import last_checkpoint, wait_for

STEPS, TOLERANCE = 200, 2e-5  # relative: sums are taken in another order
KEYS = {"steps": STEPS, "train__checkpoint_every": 4, "objective__name": "ar", "optim__epsilon": 1e-4}
SELDOM = {"train.checkpoint_every": 100}  # of all that are resumed: checkpoints take the most time here
OUT_OF_MEMORY_AFTER = 13  # of the checkpoint of step 12
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


def in_turn(commands: list[list[str]], *options: str, devices: int = 1) -> tuple[list[int], str]:
    """The exit codes of commands of one process on this many devices, and its standard error."""
    words = [sys.executable, "-m", "tests.runs.in_turn", *options, json.dumps(commands)]
    done = subprocess.run(words, env=runs.environment(devices), cwd=runs.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def end_by_signal(folder: pathlib.Path, number: signal.Signals) -> None:
    process = runs.start(folder, **KEYS)
    wait_for(lambda: (folder / "checkpoints").exists() and (last_checkpoint(folder) or 0) >= 8)
    process.send_signal(number)
    process.communicate()


def end_without_memory(folder: pathlib.Path) -> None:
    """One line, and the exit code of wrong input: XLA cannot allocate what step 14 asks for."""
    train = runs.command(folder, **KEYS)[3:]  # without `python -m mdlm_jax`
    codes, said = in_turn([train], "--until", str(OUT_OF_MEMORY_AFTER))
    (line,) = [line for line in said.splitlines() if "out of memory" in line]
    assert codes == [2] and "Traceback" not in said, said
    assert line.startswith(f"mdlm-jax: {folder}: out of memory (Out of memory allocating")
    assert "its last checkpoint is whole; run the same command to resume" in line
    assert newest_whole(folder / "checkpoints")[0] == 12


WAYS = {
    "SIGTERM": lambda folder: end_by_signal(folder, signal.SIGTERM),
    "SIGKILL": lambda folder: end_by_signal(folder, signal.SIGKILL),
    "out of memory": end_without_memory,
}


@pytest.fixture(scope="module", params=WAYS)
def resumed(request, tmp_path_factory) -> tuple[int, list[pathlib.Path]]:
    """(the step of the checkpoint that one ended run has, its copies, each resumed with one of CHANGES).

    Changes on the same number of devices share a process.
    """
    folder = tmp_path_factory.mktemp("matrix") / "run"
    WAYS[request.param](folder)
    assert not (folder / "result.json").exists()
    folders, commands = [folder.parent / str(number) / "run" for number in range(len(CHANGES))], defaultdict(list)
    for copy, (devices, keys) in zip(folders, CHANGES, strict=True):
        shutil.copytree(folder, copy)
        words = [f"--config.{key}={value}" for key, value in (SELDOM | keys).items()]
        commands[devices].append(["train", "--run", str(copy), *words])
    for devices, some in commands.items():
        codes, said = in_turn(some, devices=devices)
        assert set(codes) == {0}, said
    return newest_whole(folder / "checkpoints")[0], folders


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(CHANGES)), ids=lambda number: str(CHANGES[number]))
def test_resumed_run_has_the_same_losses(whole, resumed, number):
    (at, folders), (_, keys) = resumed, CHANGES[number]
    folder, every = folders[number], keys.get("train.log_every", 1)
    steps = [line["step"] for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())]
    logged = [step for step in range(1, STEPS + 1) if step <= at + 1 or step % every == 0 or step == STEPS]
    expected = [losses_of(whole)[step - 1] for step in logged]
    assert len(steps) == len(set(steps)) + 1  # the validation
    np.testing.assert_allclose(losses_of(folder), expected, rtol=TOLERANCE)
    (change,) = json.loads((folder / "execution.json").read_text())
    assert change["step"] == at and set(keys) <= set(change["changed"])
    one, other = (json.loads((it / "result.json").read_text()) for it in (whole, folder))
    assert one["config_hash"] == other["config_hash"] and abs(one["loss"] - other["loss"]) < TOLERANCE * one["loss"]
