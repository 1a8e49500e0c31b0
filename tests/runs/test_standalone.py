"""A run is self-contained: a copy of its folder samples and replays without the corpus."""

import json
import pathlib
import shutil

import pytest

from mdlm_jax.build import build
from mdlm_jax.config import from_json
from mdlm_jax.data.bpe import train_bpe
from mdlm_jax.errors import UserError
from mdlm_jax.runs.evaluate import evaluate_run
from mdlm_jax.runs.held_out import DataOptions
from mdlm_jax.runs.inputs import keep_inputs
from mdlm_jax.runs.restore import open_run
from mdlm_jax.sampling.compare_run import compare_run
from mdlm_jax.sampling.sample_run import sample_run
from tests.runs.here import train_here

TEXT = "A sentence of a corpus that will be deleted, number {}.\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> pathlib.Path:
    """A folder with a corpus, its tokenizer, and a run on them."""
    home = tmp_path_factory.mktemp("standalone")
    text = "".join(TEXT.format(i) for i in range(600))
    (home / "corpus.txt").write_text(text)
    train_bpe([text], 270, home / "bpe.json")
    data = {"data__source": "text", "data__path": str(home / "corpus.txt"), "data__tokenizer": str(home / "bpe.json")}
    train_here(home / "run", steps=3, objective__name="ar", **data)
    return home


def test_copied_run_samples_the_same(trained, tmp_path):
    before = list(sample_run(trained / "run", prompts=["A sentence"], out=tmp_path / "before"))
    shutil.copytree(trained / "run", tmp_path / "elsewhere" / "run")
    hidden = trained.rename(trained.with_name("gone"))
    try:
        copy = tmp_path / "elsewhere" / "run"
        assert list(sample_run(copy, prompts=["A sentence"], out=tmp_path / "after")) == before
        replays = [json.loads((tmp_path / name / "replay.json").read_text()) for name in ("before", "after")]
        assert replays[0] == replays[1]
        (row,) = compare_run(copy, samplers=["autoregressive"], out=tmp_path / "compared", judge=copy, count=2)
        assert row.quality.judge_nats is not None
        with pytest.raises(UserError, match=r"corpus.txt.*--data=PATH"):
            evaluate_run(copy, draws=None, sequences=None)
        moved = evaluate_run(copy, draws=None, sequences=4, data=DataOptions(path=str(hidden / "corpus.txt")))
        assert moved["data"]["path"] == str(hidden / "corpus.txt") and moved["data"]["sequences"] == 4
        assert moved["data"]["trained_on"] is True
    finally:
        hidden.rename(trained)
    here = evaluate_run(trained / "run", draws=None, sequences=4)
    assert {**here, "data": None} == {**moved, "data": None}


def test_other_corpus_is_not_trained_on(trained, tmp_path, capsys):
    """Evaluation on another corpus only warns."""
    shutil.copytree(trained, tmp_path / "home")
    corpus, run = tmp_path / "home" / "corpus.txt", tmp_path / "home" / "run"
    corpus.write_text(corpus.read_text().replace("sentence", "paragraph"))
    found = evaluate_run(run, draws=None, sequences=4, data=DataOptions(path=str(corpus)))
    assert found["data"]["trained_on"] is False and "is not the one that" in capsys.readouterr().err
    config = from_json(run / "config.json")
    config.data.path = str(corpus)
    with pytest.raises(UserError, match="was started with another corpus"):
        keep_inputs(config, run, build(config))


def test_run_without_stored_inputs_opens(trained, tmp_path):
    """Older versions did not write inputs.json."""
    shutil.copytree(trained / "run", tmp_path / "run")
    (tmp_path / "run" / "inputs.json").unlink()
    shutil.rmtree(tmp_path / "run" / "tokenizer")
    assert open_run(tmp_path / "run").vocab_size == open_run(trained / "run").vocab_size == 270
    assert evaluate_run(tmp_path / "run", draws=None, sequences=4)["data"]["trained_on"] is None


def test_edited_tokenizer_is_refused(trained, tmp_path):
    shutil.copytree(trained / "run", tmp_path / "run")
    path = tmp_path / "run" / "tokenizer" / "tokenizer.json"
    path.write_text(path.read_text().replace(" ", "  ", 1))
    with pytest.raises(UserError, match="is not the tokenizer that .* was trained with"):
        open_run(tmp_path / "run")
