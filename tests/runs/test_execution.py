"""Execution settings may change when a run resumes and are recorded; the keys that identify the run may not."""

import json
import shutil

import pytest

from mdlm_jax.config import config_hash, from_json
from mdlm_jax.errors import UserError
from mdlm_jax.runs.execution import config_of_run
from mdlm_jax.runs.restore import open_run
from tests.runs.here import config_of, interrupt, losses_of, train_here

KEYS = {"steps": 6, "train__checkpoint_every": 2, "objective__name": "ar"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("execution") / "run"
    train_here(folder, **KEYS)
    return folder


@pytest.fixture
def run(whole, tmp_path):
    """As a kill after step 4 leaves it."""
    shutil.copytree(whole, tmp_path / "run")
    interrupt(tmp_path / "run", 4)
    return tmp_path / "run"


def test_execution_changes_are_recorded(run, whole):
    changed = {"train__microbatches": 2, "train__remat": "full", "train__loss_chunk": 8, "eval__batch_size": 8}
    result = train_here(run, **KEYS | changed)
    assert losses_of(run) == pytest.approx(losses_of(whole), abs=2e-5)
    (change,) = json.loads((run / "execution.json").read_text())
    assert change["step"] == 4 and change["changed"]["train.microbatches"] == [1, 2] and len(change["changed"]) == 4
    assert result.config_hash == config_hash(from_json(whole / "config.json"))
    assert (run / "config.json").read_text() == (whole / "config.json").read_text()
    assert config_of_run(run).train.microbatches == 2 and open_run(run).config.train.remat == "full"


@pytest.mark.parametrize("name", ["result.json", "metrics.jsonl"])
def test_folder_in_place_of_file_is_refused(run, name):
    """Before anything is trained, which could not be reported."""
    (run / name).unlink(missing_ok=True)
    (run / name).mkdir()
    with pytest.raises(UserError, match=f"{name}: is a folder; accepted: the file that training writes"):
        train_here(run, **KEYS)


def test_unreadable_metrics_are_dropped(run):
    kept = losses_of(run)[:4]
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b'\xff\xfe\n[1]\n{"step":')
    train_here(run, **KEYS)
    assert losses_of(run)[:4] == kept and len(losses_of(run)) == KEYS["steps"]


def test_scientific_change_is_refused(run):
    with pytest.raises(UserError, match="differs in optim.lr: 0.01 -> 0.02; choose another"):
        train_here(run, **KEYS | {"optim__lr": 0.02, "train__microbatches": 2})
    assert not (run / "execution.json").exists()


def test_edited_config_is_refused(run):
    """A checkpoint stores its config, so an edit of config.json is found."""
    path = run / "config.json"
    path.write_text(path.read_text().replace('"name": "ar"', '"name": "masked"'))
    with pytest.raises(UserError, match="is not the config of checkpoint 4: objective.name: 'ar' -> 'masked'"):
        open_run(run)
    with pytest.raises(UserError, match="is not the config of checkpoint 4"):
        train_here(run, **KEYS | {"objective__name": "masked"})


def test_lost_config_is_that_of_the_checkpoint(run, whole):
    """Without config.json, another config is refused before it is written."""
    (run / "config.json").unlink()
    with pytest.raises(UserError, match="differs in optim.lr: 0.01 -> 0.02; choose another"):
        train_here(run, **KEYS | {"optim__lr": 0.02})
    assert not (run / "config.json").exists()
    train_here(run, **KEYS)
    assert (run / "config.json").read_text() == (whole / "config.json").read_text()


def test_equal_corpus_path_is_accepted(run):
    """Another spelling of the same corpus resumes the run and is recorded."""
    before = config_of(**KEYS).data.path
    train_here(run, **KEYS | {"data__path": before.replace(",", ", ")})
    (change,) = json.loads((run / "execution.json").read_text())
    assert change["changed"] == {"data.path": [before, before.replace(",", ", ")]}


def test_other_corpus_is_refused(run):
    with pytest.raises(UserError, match="was started with another corpus"):
        train_here(run, **KEYS | {"data__path": "vocab=8,concentration=0.5"})


def test_record_holds_execution_keys_only(run):
    (run / "execution.json").write_text('[{"step": 1, "changed": {"optim.lr": [0.01, 1.0]}}]')
    with pytest.raises(UserError, match="not the record of a run's execution"):
        open_run(run)
