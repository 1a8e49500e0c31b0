"""Several steps a dispatch: they end where something is due, and change no result."""

import itertools
import json
import os
import signal
from functools import partial

import numpy as np
import pytest

from mdlm_jax.data import Batch, Example
from mdlm_jax.runs import dispatches, loop, steps
from mdlm_jax.runs.dispatches import most_steps, num_steps
from mdlm_jax.runs.loop import train_all
from mdlm_jax.runs.saved import saved_steps
from tests import run_folders as runs
from tests.runs.here import assert_same_state, config_of, signals_as_before, train_here
from tests.runs.test_resume import last_checkpoint, wait_for
from tests.runs.test_rewind import spoiled, with_batches

KEYS = {"steps": 60, "train__log_every": 20, "train__checkpoint_every": 15, "train__validate_every": 25}
DUE = [15, 20, 25, 30, 40, 45, 50, 60]


@pytest.fixture
def ends(monkeypatch):
    """(a function that sets the seconds of a dispatch, the steps at which dispatches ended)."""
    found, original = [], steps.Taken

    def taken(before, count, *others):
        found.append(before + count)
        return original(before, count, *others)

    monkeypatch.setattr(steps, "Taken", taken)

    def seconds(number):
        found.clear()
        monkeypatch.setattr(dispatches, "SECONDS", number)

    return seconds, found


def lines_of(folder):
    """metrics.jsonl without what depends on time."""
    timed = ("data_wait_seconds", "compile_seconds", "tokens_per_second", "mfu", "seconds_left", "memory_bytes")
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name not in timed} for line in lines]


@pytest.mark.parametrize("most", [1, 2, 7, 128])
@pytest.mark.parametrize("every", [(1, 0, 0), (20, 25, 15), (50, 0, 0), (6, 4, 0)])
def test_dispatches_end_where_something_is_due(every, most):
    for total in (1, 5, 60, 61):
        found = [0]
        while found[-1] < total:
            found.append(found[-1] + num_steps(found[-1], total, every, most, 1e-6))
        due = {step for step in range(1, total) if any(number and step % number == 0 for number in every)}
        assert found[-1] == total and due <= set(found)
        # and nowhere else before they are full
        assert all(after in due | {total} or after - before == most for before, after in itertools.pairwise(found))


def test_dispatches_take_a_quarter_of_a_second():
    assert [num_steps(0, 1000, (0,), 128, seconds) for seconds in (float("inf"), 1.0, 0.25, 0.0625, 1e-3, 0.0)] == [
        *(1, 1, 1, 4, 128, 128)
    ]


def test_large_batches_are_dispatched_one_by_one():
    def batch(rows, length):
        tokens = np.zeros((rows, length), np.int32)
        return Batch(Example(tokens, tokens, tokens > 0), np.zeros(rows, np.int32))

    assert [most_steps([batch(*shape)]) for shape in ((16, 32), (256, 2048), (8192, 2048))] == [128, 14, 1]
    assert most_steps([batch(256, 2048)] * 7) == 2


@pytest.mark.parametrize(
    "keys",
    [
        {"objective__name": "masked"},
        pytest.param({"objective__name": "ar", "optim__ema": 0.9, "train__microbatches": 2}, marks=pytest.mark.slow),
        pytest.param({"objective__name": "sedd", "model__dropout": 0.1}, marks=pytest.mark.slow),
        pytest.param({"objective__name": "masked", "train__scan_layers": True}, marks=pytest.mark.slow),
        pytest.param({"objective__name": "masked", "train__runner": "pmap"}, marks=pytest.mark.slow),
        pytest.param({"objective__name": "masked", "train__runner": "shard_map"}, marks=pytest.mark.slow),
    ],
    ids=lambda keys: "-".join(map(str, keys.values())),
)
def test_results_do_not_depend_on_dispatches(tmp_path, ends, keys):
    """Losses, states and validations are bitwise those of one step a dispatch."""
    seconds, found = ends
    seconds(0)
    assert train_here(tmp_path / "single", **KEYS, **keys).status == "done"
    assert found == list(range(1, 61))
    seconds(1e9)
    assert train_here(tmp_path / "several", **KEYS, **keys).status == "done"
    assert found == [1, 2, 3, *DUE]  # the first compiles, the second is timed, meanwhile the third is read
    assert lines_of(tmp_path / "several") == lines_of(tmp_path / "single")
    assert saved_steps(tmp_path / "several" / "checkpoints") == saved_steps(tmp_path / "single" / "checkpoints")
    assert_same_state(tmp_path / "several", tmp_path / "single")


def test_sigterm_ends_after_the_dispatch(tmp_path, ends, monkeypatch):
    """The state after the dispatch in flight is saved, and a resumed run equals an undisturbed one."""
    seconds, found = ends
    keys = {"steps": 60, "train__log_every": 20, "train__checkpoint_every": 0, "objective__name": "ar"}
    seconds(1e9)
    train_here(tmp_path / "whole", **keys)

    def build(config, devices):
        def batches(start):
            for number in itertools.count(start):
                if number == 30:  # read while the steps up to 20 are taken
                    os.kill(os.getpid(), signal.SIGTERM)
                yield data.batch(number)

        built = original(config, devices)
        data = built.data
        return built._replace(data=data._replace(batches=batches))

    original = loop.build
    with monkeypatch.context() as patched:
        patched.setattr(loop, "build", build)
        found.clear()
        assert train_here(tmp_path / "ended", **keys) is None
    assert found == [1, 2, 3, 20] and saved_steps(tmp_path / "ended" / "checkpoints") == [20]
    assert [line["step"] for line in lines_of(tmp_path / "ended")] == [1, 20]
    assert train_here(tmp_path / "ended", **keys).status == "done"
    assert found == [1, 2, 3, 20, 21, 22, 23, 40, 60]
    assert_same_state(tmp_path / "ended", tmp_path / "whole")


SPIKE = {"steps": 150, "optim__spike_deviations": 7.0, "train__log_every": 50, "train__checkpoint_every": 20}


def test_bad_step_is_found_inside_a_dispatch(tmp_path, ends, monkeypatch):
    """It is named, and the state after the dispatch is not saved."""
    with_batches(monkeypatch, spoiled)
    causes = []
    for name, number in (("single", 0), ("several", 1e9)):
        ends[0](number)
        result = train_here(tmp_path / name, **SPIKE, objective__name="ar")
        causes.append(result.cause)
        assert result.status == "failed" and saved_steps(tmp_path / name / "checkpoints") == [100, 120]
    assert causes[0] == causes[1] and causes[0].startswith("step 131: loss ") and "(a spike)" in causes[0]
    assert ends[1][-2:] == [120, 140] and lines_of(tmp_path / "single") == lines_of(tmp_path / "several")


@pytest.mark.slow
def test_populations_do_not_depend_on_dispatches(tmp_path, ends, monkeypatch):
    """A member that fails inside a dispatch ends there, and the others continue."""

    def build(config, devices):
        built = original(config, devices)
        data = built.data
        return built._replace(data=data._replace(batches=partial(spoiled, data))) if config.seed == 1 else built

    original = loop.build
    monkeypatch.setattr(loop, "build", build)
    configs = [config_of(**SPIKE, objective__name="ar", seed=seed) for seed in range(3)]
    found = {}
    for name, number in (("single", 0), ("several", 1e9)):
        ends[0](number)
        folders = [tmp_path / name / str(i) for i in range(3)]
        with signals_as_before():
            found[name] = train_all(configs, folders)
        assert [result.status for result in found[name]] == ["done", "failed", "done"]
    assert ends[1][-3:] == [120, 140, 150]
    assert found["single"][1].cause == found["several"][1].cause and "step 131" in found["single"][1].cause
    for i in range(3):
        one, other = (tmp_path / name / str(i) for name in ("single", "several"))
        assert lines_of(one) == lines_of(other)
        assert saved_steps(one / "checkpoints") == saved_steps(other / "checkpoints")
        assert_same_state(one, other)


@pytest.mark.slow
def test_processes_dispatch_the_same_steps(tmp_path, free_port):
    """Each measures other times. A SIGTERM to one of them ends both after the same dispatch."""
    keys = {"train__log_every": 50, "train__checkpoint_every": 0, "objective__name": "ar", "steps": 100_000}
    keys |= {"optim__decay": "constant", "optim__warmup_share": 0.0}  # which do not depend on the number of steps
    joined = ("--coordinator", f"localhost:{free_port}", "--processes", "2", "--process")
    both = [runs.start(tmp_path / "run", *joined, str(rank), train__mesh_fsdp=2, **keys) for rank in range(2)]
    metrics = tmp_path / "run" / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") > 3)
    both[1].send_signal(signal.SIGTERM)
    assert "state saved" in "".join(map(runs.finish, both))
    last = last_checkpoint(tmp_path / "run")
    runs.train(tmp_path / "one", **keys | {"steps": last})
    found = [[line["loss"] for line in lines_of(tmp_path / name)[:4]] for name in ("run", "one")]
    np.testing.assert_allclose(*found, rtol=1e-3)
