"""A run of a sweep is identified by the content of its corpus and tokenizer, not by how their paths are spelled."""

import json
import pathlib
import shutil

import pytest

from mdlm_jax.data.bpe import train_bpe
from mdlm_jax.errors import UserError
from mdlm_jax.sweeps import sweep
from mdlm_jax.sweeps.experiment import Experiment
from tests.runs.here import config_of, train_here

TEXT = "A sentence of a corpus that is moved, number {}.\n"
KEYS = {"steps": 2, "objective__name": "ar", "data__source": "text"}


@pytest.fixture
def corpus(tmp_path) -> dict[str, str]:
    """Keys of a text and a tokenizer."""
    (tmp_path / "texts").mkdir()
    text = "".join(TEXT.format(number) for number in range(600))
    (tmp_path / "texts" / "a.txt").write_text(text)
    train_bpe([text], 270, tmp_path / "bpe.json")
    return {"data__path": f"{tmp_path}/texts/a.txt", "data__tokenizer": f"{tmp_path}/bpe.json"}


def started(folder: pathlib.Path, keys: dict) -> list[str]:
    """The runs that a sweep of one run starts; none is trained."""
    names = []
    experiment = Experiment(folder / "experiment.py", "one", [config_of(**KEYS, **keys)], ("run",))
    sweep.run(experiment, folder, lambda _, starting, jobs: names.extend(job.folder.name for job in starting))
    return names


def reported(folder: pathlib.Path, keys: dict) -> list[str]:
    experiment = Experiment(folder / "experiment.py", "one", [config_of(**KEYS, **keys)], ("run",))
    return [result.run_id for result in sweep.collect(experiment, folder)[0]]


def test_spelling_of_paths(tmp_path, corpus):
    """Of a run that is done and of one that has not started; a moved corpus is the same, an edited one another."""
    folder, other = tmp_path / "runs", tmp_path / "waiting"
    train_here(folder / "run", **KEYS, **corpus)
    assert started(other, corpus) == ["run"]
    shutil.copytree(tmp_path / "texts", tmp_path / "moved")
    shutil.copyfile(tmp_path / "bpe.json", tmp_path / "same.json")
    again = {"data__path": f"{tmp_path}/./moved/*.txt", "data__tokenizer": f"{tmp_path}/same.json"}
    assert started(folder, again) == [] and reported(folder, again) == ["run"]
    assert started(other, again) == ["run"]
    (change,) = json.loads((other / "run" / "execution.json").read_text())
    assert list(change["changed"]) == ["data.path", "data.tokenizer"]

    (tmp_path / "moved" / "a.txt").write_text("Another text. " * 999)
    train_bpe([TEXT], 271, tmp_path / "other.json")
    for where in (folder, other):
        with pytest.raises(UserError, match="run: data.path: .*a.txt' -> '.*moved/.*: was started with other values"):
            started(where, again)
        with pytest.raises(UserError, match="data.tokenizer: .*bpe.json' -> '.*other.json': was started with other"):
            started(where, corpus | {"data__tokenizer": f"{tmp_path}/other.json"})
        with pytest.raises(UserError, match="data.path: .* -> '.*gone.txt': was started with other values"):
            started(where, corpus | {"data__path": f"{tmp_path}/gone.txt"})
    assert reported(folder, again) == []
