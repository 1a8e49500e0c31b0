"""The states of a sweep's runs, read from their folders or from the file that keeps those that are done."""

import json
import subprocess
import sys

import pytest

from mdlm_jax.config import hash_of_stored
from mdlm_jax.runs.result import Result, write_result
from mdlm_jax.sweeps.found import KEPT, found_runs
from mdlm_jax.sweeps.plan import plan_runs
from mdlm_jax.sweeps.sweep import prepare
from tests import run_folders as runs
from tests.report.fake_run import FIELDS
from tests.runs.here import config_of


@pytest.fixture
def folder(tmp_path):
    """Two runs that are done and one that waits."""
    configs = [config_of(seed=seed) for seed in range(3)]
    planned = plan_runs(configs)
    prepare(planned, tmp_path)
    for run in planned[:2]:
        place = tmp_path / run.run_id
        write_result(place, done(place))
        (place / "metrics.jsonl").write_text(json.dumps({"step": 3, "loss": 2.5}) + "\n")
    return tmp_path


def done(place, loss=2.0):
    return Result(**FIELDS)._replace(
        run_id=place.name, objective="masked", loss=loss, config_hash=hash_of_stored(place / "config.json")
    )


def test_second_look_is_equal(folder):
    first = found_runs(folder)
    assert [state.state for state in first.states.values()] == ["done", "done", "waiting"]
    assert len(json.loads((folder / KEPT).read_text())) == 2
    assert found_runs(folder) == first
    for text in ("", "[1]", '{"a": [1]}', (folder / KEPT).read_text()[:-9]):
        (folder / KEPT).write_text(text)
        assert found_runs(folder) == first


def test_kept_results_of_another_version_are_read_anew(folder):
    first, kept = found_runs(folder), json.loads((folder / KEPT).read_text())
    for *_, result in kept.values():
        del result["estimator"]
    (folder / KEPT).write_text(json.dumps(kept))
    assert found_runs(folder) == first


def test_changed_results_are_read_again(folder):
    first = found_runs(folder)
    changed, other, _ = first.states
    write_result(changed, done(changed, loss=1.25))
    (other / "result.json").unlink()
    found = found_runs(folder).states
    assert found[changed].result.loss == 1.25 and found[other].state == "waiting"
    assert list(json.loads((folder / KEPT).read_text())) == [changed.name]


def test_status_without_jax(folder):
    """All runs are done, so nothing is planned."""
    waiting = list(found_runs(folder).states)[-1]
    (waiting / "config.json").unlink()
    words = f"['sweep', 'status', 'x', '--folder', {str(folder)!r}]"
    code = f"import sys; sys.modules['jax'] = None; from mdlm_jax.cli.main import main; main({words})"
    for _ in range(2):
        told = subprocess.run([sys.executable, "-c", code], env=runs.environment(), capture_output=True, text=True)
        assert told.returncode == 0 and told.stdout.endswith("2 done\n"), told
        (folder / KEPT).unlink(missing_ok=True)
