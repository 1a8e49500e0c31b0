import json

import pytest

from mdlm_jax.config import config_hash
from mdlm_jax.errors import UserError
from mdlm_jax.report.stored import find_stored, read_stored, write_stored
from mdlm_jax.sweeps.experiment import load_experiment
from mdlm_jax.sweeps.names import run_id
from tests import run_folders as runs
from tests.synthetic import failed, sweep


@pytest.fixture(scope="module")
def stored():
    return sweep("ar", 1.0, (1e10,), bound="exact")


def test_stored_results_are_read_back(tmp_path, stored):
    results = [*stored[1:], failed(stored[0], "out of memory")]
    write_stored(tmp_path / "made" / "results.json", results)
    assert read_stored(tmp_path / "made" / "results.json") == (results, [])


def test_bad_entries_are_named_and_others_read(tmp_path, stored):
    path = tmp_path / "results.json"
    write_stored(path, [*stored, stored[1]._replace(seed=3)])
    entries = json.loads(path.read_text())
    del entries[2]["tokens"]
    path.write_text(json.dumps(entries))
    results, problems = read_stored(path)
    assert results == stored[:2] + stored[3:]
    assert problems == [
        f"{path}, result 2: key 'tokens' is missing",
        f"{path}, result 5: a second result of {stored[1].run_id}; the first is used",
    ]


@pytest.mark.parametrize(
    ("text", "named"),
    [('[{"run_id": "a"', "not whole JSON, line 1"), ("{}", "expected a list of results"), ("[1]", "a list of results")],
)
def test_file_without_a_list_of_results_is_refused(tmp_path, text, named):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(UserError, match=named):
        read_stored(tmp_path / "results.json")


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_stored(tmp_path / "results.json")


@pytest.mark.parametrize("name", ["isoflop_small", "data_constrained", "objectives"])
def test_stored_results_match_their_experiments(name):
    """Config keys that were added later have not changed the hashes."""
    results, problems = read_stored(runs.ROOT / "experiments" / "results" / name / "results.json")
    configs = load_experiment(runs.ROOT / "experiments" / f"{name}.py").configs
    assert results and not problems
    assert {result.run_id: result.config_hash for result in results} == {
        run_id(config): config_hash(config) for config in configs
    }


@pytest.mark.parametrize("name", ["isoflop_small", "data_constrained", "objectives", "quickstart"])
def test_stored_experiments_open_by_folder_and_file(name):
    folder = runs.ROOT / "experiments" / "results" / name
    by_folder, by_file = (find_stored(path) for path in (folder, folder / "results.json"))
    assert by_folder[0] and by_folder[:2] == by_file[:2] and by_folder[1] == []
