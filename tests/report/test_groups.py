"""Runs that differ in more than size, budget and seed are told apart by name."""

import json

import pytest

from mdlm_jax.config import to_json
from mdlm_jax.configs import base
from mdlm_jax.report.analysis import analyse
from mdlm_jax.report.groups import base_objective, group_name, grouped, varying_keys
from mdlm_jax.report.stored import find_stored, write_stored
from tests.synthetic import sweep, write_runs

BUDGETS = (1e10, 3e10, 1e11)


def varied(objective, values, key="objective.schedule", **changes):
    """One sweep for each value of `key`, and flat configs by run id."""
    results, configs = [], {}
    for place, value in enumerate(values):
        for run in sweep(objective, 1.0 + place, BUDGETS, seed=place):
            run = run._replace(run_id=f"{run.run_id}-{value}", **changes)
            results.append(run)
            configs[run.run_id] = {"budget": run.budget, "optim.lr": 1e-3 * run.budget**-0.1, key: value}
    return results, configs


def test_one_key():
    results, configs = varied("masked", ["linear", "cosine"])
    assert varying_keys(results, configs) == {"masked": ["objective.schedule"]}, "the rate is scaled with the budget"
    names = {run.objective for run in grouped(results, configs)}
    assert names == {"masked, schedule=linear", "masked, schedule=cosine"}
    assert {base_objective(name) for name in names} == {"masked"}


@pytest.mark.parametrize("key", ["train.batch_size", "optim.ema", "data.sequence_length", "optim.lr"])
def test_any_key(key):
    results, configs = varied("ar", [0.5, 2.0], key)
    leaf = key.rpartition(".")[2]
    assert {run.objective for run in grouped(results, configs)} == {f"ar, {leaf}=0.5", f"ar, {leaf}=2.0"}


@pytest.mark.parametrize("key", ["train.mesh_fsdp", "train.loggers", "eval.batch_size"])
def test_execution_makes_no_groups(key):
    results, configs = varied("ar", [1, 2], key)
    assert grouped(results, configs) == results


def test_seeds_make_no_groups():
    results = sweep("ar", 1.0, BUDGETS)
    both = results + [run._replace(run_id=f"{run.run_id}-1", seed=1) for run in results]
    configs = {run.run_id: {"budget": run.budget, "seed": run.seed} for run in both}
    assert grouped(both, configs) == both


def test_settings_of_a_size_make_no_groups():
    """A batch size that grows with the size, or a rate with the budget, belongs to the design of the sweep."""
    results = sweep("ar", 1.0, BUDGETS)
    configs = {run.run_id: {"budget": run.budget, "train.batch_size": run.parameters_total} for run in results}
    assert grouped(results, configs) == results


def test_runs_without_a_config_stay():
    results, configs = varied("masked", ["linear", "cosine"])
    plain = sweep("ar", 1.0, BUDGETS, bound="exact")
    assert grouped(results + plain, configs)[len(results) :] == plain


def test_comparisons():
    """Every group is compared with the reference; a control is between groups of the same settings."""
    results = []
    for name, scale in (("ar", 1.0), ("any_order", 4.0), ("masked", 4.0)):
        for batch in (8, 16):
            runs = sweep(name, scale, BUDGETS, bound="exact" if name == "ar" else "upper", seed=batch)
            results += [run._replace(objective=group_name(name, {"train.batch_size": batch})) for run in runs]
    compared = {(c.reference, c.other): c.control for c in analyse(results).comparisons}
    reference = "ar, batch_size=16"
    controls = [(f"any_order, batch_size={batch}", f"masked, batch_size={batch}") for batch in (8, 16)]
    assert [pair for pair, control in compared.items() if control] == sorted(controls, key=lambda pair: pair[0])
    assert sum(first == reference for first, _ in compared) == 5


def test_stored_groups(tmp_path):
    """Run folders with configs, and the file that is stored from them, give the same groups."""
    results, configs = varied("masked", ["linear", "cosine"])
    for name, folder in write_runs(tmp_path / "runs", results).items():
        run = next(run for run in results if run.run_id == name)
        (folder / "result.json").write_text(json.dumps(run._asdict()))
        config = base.get_config()
        config.objective.schedule, config.budget = configs[name]["objective.schedule"], run.budget
        (folder / "config.json").write_text(to_json(config))
    found, problems, folders = find_stored(tmp_path / "runs")
    assert not problems and set(folders) == set(configs)
    assert sorted(found) == sorted(grouped(results, configs))
    write_stored(tmp_path / "results.json", found)
    for path in (tmp_path / "results.json", tmp_path):
        assert find_stored(path) == (found, [], {})
