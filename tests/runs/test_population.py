"""Several runs as one program: each trains as it would alone, whatever happens to the others."""

import json
import os
import signal
import threading
import time

import jax
import numpy as np
import pytest

from mdlm_jax.runs.loop import train, train_all
from mdlm_jax.runs.population import populations, program_of
from mdlm_jax.runs.result import read_result
from mdlm_jax.runs.saved import saved_steps
from tests import run_folders as runs
from tests.runs.here import config_of, signals_as_before, state_of

# vmap sums in another order, and with a smaller epsilon Adam turns what is left of a gradient of 0 into whole steps
KEYS = {"steps": 12, "train__checkpoint_every": 5, "optim__ema": 0.9, "optim__epsilon": 1e-4}
MEMBERS = ({"seed": 0}, {"seed": 1, "optim__lr": 3e-3}, {"seed": 2, "data__seed": 5, "optim__weight_decay": 0.3})


def configs_of(members=MEMBERS, **keys):
    return [config_of(**KEYS | keys | member) for member in members]


def metrics_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_close(a, b):
    """To 1e-5, of the largest where a number is nearly 0."""
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max(initial=0.0))


def assert_as_alone(configs, folders, alone):
    """Parameters, losses and results of runs that were trained together, against each by itself."""
    with signals_as_before():
        for config, folder in zip(configs, folders, strict=True):
            assert train(config, alone / folder.name).status == "done"
    for folder in folders:
        states = [state_of(path, 12) for path in (folder, alone / folder.name)]
        jax.tree.map(assert_close, *states)
        assert saved_steps(folder / "checkpoints") == saved_steps(alone / folder.name / "checkpoints")
        one, other = metrics_of(folder), metrics_of(alone / folder.name)
        for key in ("step", "loss", "gradient_norm", "flops", "validation_loss"):
            assert [line.get(key, 0) for line in one] == pytest.approx([line.get(key, 0) for line in other], rel=1e-5)
        results = [read_result(path / "result.json") for path in (folder, alone / folder.name)]
        assert results[0].loss == pytest.approx(results[1].loss, rel=1e-5)
        same = [result._replace(loss=0, loss_standard_error=0, loss_monte_carlo_error=0) for result in results]
        same = [it._replace(bits_per_byte=0, wall_seconds=0, compile_seconds=0, device="") for it in same]
        assert same[0] == same[1]


@pytest.mark.parametrize(
    "keys",
    [
        {"objective__name": "masked", "train__validate_every": 6},
        pytest.param({"objective__name": "ar", "train__microbatches": 2}, marks=pytest.mark.slow),
        pytest.param({"objective__name": "masked", "train__scored_only": True}, marks=pytest.mark.slow),
        pytest.param({"objective__name": "ar", "optim__name": "muon"}, marks=pytest.mark.slow),
        pytest.param({"objective__name": "ar", "model__parametrization": "completep"}, marks=pytest.mark.slow),
        # twelve steps at a rate of 1e-2 multiply rounding until two programs of one run differ by 1e-5 themselves
        pytest.param({"objective__name": "sedd", "model__dropout": 0.1, "optim__lr": 2e-3}, marks=pytest.mark.slow),
    ],
    ids=lambda keys: keys["objective__name"] + "-" + list(keys)[1],
)
def test_members_equal_single_runs(keys, tmp_path):
    configs = configs_of(**keys)
    folders = [tmp_path / "together" / str(number) for number in range(3)]
    with signals_as_before():
        assert [result.status for result in train_all(configs, folders)] == ["done"] * 3
    assert_as_alone(configs, folders, tmp_path / "alone")


@pytest.mark.slow
def test_sigterm_saves_all_members(tmp_path):
    """All members save at the same step and resume together."""
    configs = configs_of(steps=12)
    folders = [tmp_path / "together" / str(number) for number in range(3)]

    def tell():
        while not (folders[0] / "metrics.jsonl").exists() or not metrics_of(folders[0]):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    with signals_as_before():
        telling = threading.Thread(target=tell)
        telling.start()
        found = train_all(configs, folders)
        telling.join()
        if found == [None] * 3:  # or they were quicker than the signal
            steps = [saved_steps(folder / "checkpoints")[-1] for folder in folders]
            assert len(set(steps)) == 1 and not any((folder / "result.json").exists() for folder in folders)
            assert [result.status for result in train_all(configs, folders)] == ["done"] * 3
    assert_as_alone(configs, folders, tmp_path / "alone")


def test_failed_member_ends_alone(tmp_path):
    configs = configs_of([{"seed": 0}, {"seed": 1, "optim__lr": 1e30}, {"seed": 2}])
    folders = [tmp_path / str(number) for number in range(3)]
    with signals_as_before():
        first, bad, last = train_all(configs, folders)
    assert (first.status, bad.status, last.status) == ("done", "failed", "done")
    assert "gradient norm nan" in bad.cause and "last good checkpoint: none" in bad.cause and bad.loss is None
    assert saved_steps(folders[1] / "checkpoints") == [] and saved_steps(folders[2] / "checkpoints")[-1] == 12


def test_runs_of_one_program_are_grouped(tmp_path):
    """Runs share a program if they differ only in seeds and traced hyperparameters."""
    lone, seeds = config_of(steps=7), [config_of(seed=seed, optim__lr=1e-2 / (1 + seed)) for seed in range(3)]
    longer, split = config_of(steps=9), config_of(train__mesh_data=2)
    rewinding = [config_of(seed=seed, optim__on_nonfinite="rewind") for seed in (0, 1)]
    configs = [lone, *seeds, longer, split, *rewinding]
    assert populations(configs, [tmp_path / str(i) for i in range(8)]) == [[0], [1, 2, 3], [4], [5], [6], [7]]
    assert program_of(split) is None and program_of(lone) is not None


@pytest.mark.slow
def test_members_at_other_steps_train_apart(tmp_path):
    configs = configs_of(steps=12)
    folders = [tmp_path / str(number) for number in range(3)]
    with signals_as_before():
        assert train(config_of(**KEYS | MEMBERS[1]), folders[1]).status == "done"
        (folders[1] / "result.json").unlink()
        assert populations(configs, folders) == [[0, 2], [1]]
        assert [result.status for result in train_all(configs, folders)] == ["done"] * 3


@pytest.mark.slow
def test_members_are_spread_over_devices(tmp_path):
    names = [tmp_path / "together" / str(number) for number in range(4)]
    members = [{"seed": number, "optim__lr": 1e-3 * (1 + number)} for number in range(4)]
    configs = configs_of(members)
    for config, folder in zip(configs, names, strict=True):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config.to_dict()))
    told = runs.train_again(*names, devices=4)
    assert all(f"{name}: " in told for name in names)
    assert_as_alone(configs, names, tmp_path / "alone")
