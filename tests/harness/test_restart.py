"""Runs that are killed and restarted, repeated, or computed in other batches end with the same numbers."""

import json
import math
import signal
import subprocess
import sys

import numpy as np
import pytest

from mdlm_jax.cli.main import main
from mdlm_jax.harness.answers import FILE
from mdlm_jax.harness.evaluate import RESULTS, harness
from mdlm_jax.harness.lines import ITEMS, SCORES, TEXTS
from tests.harness.models import LLADA, LLAMA_SMALL, TASKS, model_folder, task_folder
from tests.run_folders import own_lines

pytestmark = pytest.mark.slow

# a process that dies after its third batch of answers, in the middle of writing a fourth
KILLED = """
import os, pathlib, signal, sys
from mdlm_jax.harness import answers
from mdlm_jax.harness.evaluate import harness

whole, calls = answers.Answers.add, []

def add(self, found):
    if len(calls) == 3:
        self.file.write(b'{"key": "half a li')
        self.file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    calls.append(found)
    whole(self, found)

answers.Answers.add = add
model, tasks, out = map(pathlib.Path, sys.argv[1:4])
harness(model, sys.argv[4].split(","), out, include_path=tasks, draws=4, batch_size=4)
"""
ERRORS = {
    "--tasks=small_choise": "no such task; accepted: such as small_choice",
    "--tasks=broken": "lm_eval cannot load it",
    "--include-path=nowhere": "no such folder",
    "--model=nowhere": "nowhere",
    "--draws=3": "accepted: an even number",
    "--likelihood=best": "accepted: elbo, orders",
    "--orders=4": "accepted: with --likelihood=orders",
    "--guidance=nan": "accepted: a finite number",
    "--sampler=best": "best",
}


@pytest.fixture(scope="module", params=[LLAMA_SMALL, LLADA], ids=["exact", "bound"])
def folder(request, tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("models") / "model", request.param)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    path = task_folder(tmp_path_factory.mktemp("tasks") / "files")
    broken = {"task": "broken", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "nowhere.jsonl"}}}
    (path / "broken.yaml").write_text(json.dumps(TASKS["small_choice"] | broken | {"test_split": "test"}))
    return path


@pytest.fixture(scope="module")
def undisturbed(folder, tasks, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    harness(folder, list(TASKS), out, include_path=tasks, draws=4, batch_size=4)
    return out


def scores_of(out):
    return [json.loads(line) for line in (out / SCORES).read_text().splitlines()]


def same(out, other):
    return all((out / name).read_bytes() == (other / name).read_bytes() for name in (RESULTS, SCORES, TEXTS, ITEMS))


def test_killed_and_restarted(folder, tasks, undisturbed, tmp_path):
    arguments = [str(folder), str(tasks), str(tmp_path), ",".join(TASKS)]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    half, whole = (tmp_path / FILE).read_bytes(), (undisturbed / FILE).read_bytes()
    assert not half.endswith(b"\n") and 0 < half.count(b"\n") < whole.count(b"\n")
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    harness(folder, list(TASKS), tmp_path, include_path=tasks, draws=4, batch_size=4)
    assert same(tmp_path, undisturbed)
    assert (tmp_path / FILE).read_bytes().startswith(half[: half.rfind(b"\n") + 1])


def test_repeated(folder, tasks, undisturbed, tmp_path):
    harness(folder, list(TASKS), tmp_path, include_path=tasks, draws=4, batch_size=4)
    assert same(tmp_path, undisturbed)


def test_batches(folder, tasks, undisturbed, tmp_path):
    names = ["small_choice", "small_rolling"]
    for size in (1, 8):
        harness(folder, names, tmp_path / str(size), include_path=tasks, draws=4, batch_size=size)
    expected = scores_of(undisturbed)
    for size in (1, 8):
        for one, other in zip(scores_of(tmp_path / str(size)), expected, strict=True):
            assert one["nats"] == pytest.approx(other["nats"], abs=1e-4)
            assert one["standard_error"] == pytest.approx(other["standard_error"], abs=1e-4)
            assert one["tokens"] == other["tokens"] and one["greedy"] == other["greedy"]


def test_errors_of_bounds(folder, undisturbed):
    """An answer of one token is masked in every view, so its bound has no noise. Two views can agree by chance."""
    exact = json.loads((undisturbed / RESULTS).read_text())["bound"] == "exact"
    found = scores_of(undisturbed)
    assert {score["tokens"] > 1 for score in found} == {False, True}
    assert all(score["tokens"] > 1 for score in found if score["standard_error"] > 0)
    assert any(score["standard_error"] > 0 for score in found) == (not exact)
    assert {score["draws"] for score in found} == {1 if exact else 4}


def test_items_add_up_to_the_metrics(undisturbed):
    """The metrics of the harness, from the lines of its items."""
    found = json.loads((undisturbed / RESULTS).read_text())
    items = [json.loads(line) for line in (undisturbed / ITEMS).read_text().splitlines()]
    assert len({(item["task"], item["item"], item["document"]) for item in items}) == len(items) == 14
    sums = {}
    for item in items:
        for name, pair in item["metrics"].items():
            sums[item["task"], name] = np.add(sums.get((item["task"], name), 0), pair)
    assert len(sums) == 6
    for (task, name), (total, weight) in sums.items():
        expected = found["results"][task][f"{name.removeprefix('log ')},none"]
        assert total / weight == pytest.approx(math.log(expected) if name.startswith("log ") else expected, abs=1e-12)


@pytest.mark.parametrize("wrong", ERRORS)
def test_error_lines(wrong, folder, tasks, tmp_path, capsys):
    given = {"--model": str(folder), "--tasks": "small_choice", "--include-path": str(tasks), "--out": str(tmp_path)}
    name, _, value = wrong.partition("=")
    with pytest.raises(SystemExit) as ended:
        main(["harness", *(f"{key}={text}" for key, text in (given | {name: value}).items())])
    said = own_lines(capsys.readouterr().err)
    assert ended.value.code == 2 and len(said) == 1 and ERRORS[wrong] in said[0]
    assert not (tmp_path / RESULTS).exists()
