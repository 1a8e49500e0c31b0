"""Damaged checkpoints are found, reported and skipped."""

import pathlib
import random
import shutil

import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.runs import seal
from mdlm_jax.runs.restore import open_run
from mdlm_jax.runs.saved import CONFIG, newest_whole, saved_steps
from tests.runs.here import assert_same_state, train_here

KEYS = {"steps": 20, "train__checkpoint_every": 10}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("digest") / "whole"
    train_here(folder, **KEYS)
    return folder


@pytest.fixture
def run(whole, tmp_path) -> pathlib.Path:
    """As a kill after the last checkpoint leaves it."""
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    return tmp_path / "run"


def sealed_files(step: pathlib.Path) -> list[pathlib.Path]:
    return [path for path in sorted(step.rglob("*")) if path.is_file() and path.name not in SPARED]


# times and names, and the digests of nothing but Orbax's mark of a commit: a restore reads neither
SPARED = ("_CHECKPOINT_METADATA", "commit_success.txt")


def flip(path: pathlib.Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def truncate(path: pathlib.Path, draw: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: draw.randrange(path.stat().st_size)])


def remove(path: pathlib.Path, draw: random.Random) -> None:
    path.unlink()


@pytest.mark.parametrize("harm", [flip, truncate, remove])
def test_damage_selects_previous_checkpoint(run, harm):
    """Damage to any file of a checkpoint is found."""
    folder, draw = run / "checkpoints", random.Random(0)
    assert newest_whole(folder) == (20, [])
    files = sealed_files(folder / "20")
    assert len(files) > 8
    for path in files:
        content = path.read_bytes()
        harm(path, draw)
        step, damaged = newest_whole(folder)
        assert step == 10 and len(damaged) == 1
        path.write_bytes(content)
    assert newest_whole(folder) == (20, [])


def test_training_resumes_before_the_damage(run, whole, capfd):
    """One line names the damaged file and the step that training resumes from."""
    harmed = max(sealed_files(run / "checkpoints" / "20"), key=lambda path: path.stat().st_size)
    flip(harmed, random.Random(1))
    train_here(run, **KEYS)
    said = [line for line in capfd.readouterr().err.splitlines() if "checkpoint" in line]
    assert said == [f"mdlm-jax: {harmed} is not what was written; going on from the checkpoint of step 10"]
    assert_same_state(run, whole)


def test_evaluation_keeps_damaged_files(run, capfd):
    """It reads the previous checkpoint and removes nothing."""
    flip(run / "checkpoints" / "20" / "default" / "_METADATA", random.Random(2))
    assert open_run(run).step == 10
    assert capfd.readouterr().err.count("\n") == 1 and saved_steps(run / "checkpoints") == [10, 20]


def test_no_whole_checkpoint_is_refused(run):
    for step in (10, 20):
        flip(run / "checkpoints" / str(step) / "default" / "_METADATA", random.Random(3))
    with pytest.raises(UserError, match="20/default/_METADATA is not .*10/default/_METADATA is not .*no other"):
        train_here(run, **KEYS)


def test_checkpoint_without_digests(run):
    """It is used only if no checkpoint has digests or a copy of the config, as older versions wrote them.

    A half-removed checkpoint may have lost its digests.
    """
    folder = run / "checkpoints"
    (folder / "20" / seal.FILE_NAME).unlink()
    assert newest_whole(folder)[0] == 10
    (folder / "10" / seal.FILE_NAME).unlink()
    with pytest.raises(UserError, match="20/digests.json cannot be read; .*10/digests.json cannot be read; no other"):
        newest_whole(folder)
    for step in (10, 20):
        (folder / str(step) / CONFIG).unlink()
    assert newest_whole(folder) == (20, [])


@pytest.mark.parametrize("content", ["{}", '{"default/_METADATA": ""}'])
def test_missing_digest_is_damage(run, content):
    folder = run / "checkpoints"
    (folder / "20" / seal.FILE_NAME).write_text(content)
    step, damaged = newest_whole(folder)
    assert step == 10 and "has no digest in digests.json" in damaged[0]


def test_added_file_is_damage(run):
    (run / "checkpoints" / "20" / "default" / "d" / "more").write_text("")
    assert newest_whole(run / "checkpoints")[0] == 10
