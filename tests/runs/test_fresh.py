"""Training starts over only where `--fresh` requests it."""

import json
import pathlib
import shutil

import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.runs.attempts import last_attempt
from mdlm_jax.runs.hold import hold
from tests.runs.here import config_of, interrupt, losses_of, train_here

KEYS = {"steps": 4, "train__checkpoint_every": 2, "objective__name": "ar"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fresh") / "run"
    train_here(folder, **KEYS)
    return folder


@pytest.fixture
def run(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    return tmp_path / "run"


@pytest.mark.parametrize("folder_too", [True, False])
def test_lost_checkpoints_are_refused(run, folder_too):
    shutil.rmtree(run / "checkpoints")
    if not folder_too:
        (run / "checkpoints").mkdir()
    before = (run / "metrics.jsonl").read_text()
    with pytest.raises(UserError, match="has 4 steps and no checkpoint is left to resume from; accepted: .*--fresh"):
        train_here(run, **KEYS)
    assert (run / "metrics.jsonl").read_text() == before and not (run / "result.json").exists()


def test_fresh_sets_old_files_aside(run, whole):
    shutil.rmtree(run / "checkpoints")
    before = (run / "metrics.jsonl").read_text()
    train_here(run, fresh=True, **KEYS)
    assert (run / "set-aside-1" / "metrics.jsonl").read_text() == before
    assert losses_of(run) == losses_of(whole)


def test_kill_before_first_checkpoint_restarts(run, whole):
    interrupt(run, 0)
    train_here(run, **KEYS)
    assert losses_of(run) == losses_of(whole) and not list(run.glob("set-aside*"))


def test_one_process_trains_a_run(run):
    with hold([run]), pytest.raises(UserError, match=r"is being trained by process \d+ on .*; accepted: another --run"):
        train_here(run, **KEYS)
    assert train_here(run, **KEYS).status == "done"
    assert last_attempt(run).outcome == "done"


def test_hold_records_the_outcome(tmp_path):
    with pytest.raises(KeyboardInterrupt), hold([tmp_path]):
        raise KeyboardInterrupt
    assert last_attempt(tmp_path).outcome == "stopped"
    with hold([tmp_path]) as outcomes:
        outcomes[tmp_path] = ("failed", "step 3: loss nan")
    assert last_attempt(tmp_path)[2:4] != () and last_attempt(tmp_path).cause == "step 3: loss nan"
    assert len(json.loads((tmp_path / "attempts" / "2.json").read_text())["owner"]["host"])


@pytest.mark.parametrize("name", ["", ".", "..", "a/.."])
def test_folder_without_a_name_is_refused(name):
    from mdlm_jax.runs.same_run import check_folder

    with pytest.raises(UserError, match="accepted: the folder of one run, by its name"):
        check_folder(config_of(), pathlib.Path(name))
