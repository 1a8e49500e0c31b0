"""Workers that train run after run in one process: what ends one run does not touch the others."""

import json
import os
import pathlib
import random
import signal
import sys
import time

import jax
import numpy as np
import pytest

from mdlm_jax.cli import trainer
from mdlm_jax.config import to_json
from mdlm_jax.runs import attempts
from mdlm_jax.runs.loop import train_all
from mdlm_jax.runs.programs import shape_of
from mdlm_jax.runs.result import read_result
from mdlm_jax.runs.saved import saved_steps
from mdlm_jax.sweeps import tasks, work
from mdlm_jax.sweeps.jobs import CORE_STEP, Job, longest_first, preferred
from mdlm_jax.sweeps.launch import Slot, run_pool
from mdlm_jax.sweeps.launchers import is_done
from tests.runs.here import assert_same_state, config_of, signals_as_before

# Does what the name of a run's folder says, and tells which process it is.
TRAINER = """
import json, os, pathlib, signal, sys, time
from mdlm_jax.sweeps import tasks
told = []
def train(folder, log):
    does = folder.name
    with open(log, "a") as out:
        out.write(f"{os.getpid()}\\n")
        out.write("the last words\\n" * (does == "fails"))
    if does == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if does == "aborts":
        os.abort()
    if does == "fails":
        raise SystemExit(3)
    if does.startswith("waits"):
        signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
        while not told:
            time.sleep(0.01)
        raise SystemExit(0)
    (folder / "result.json").write_text('{"status": "done"}')
    return 0
if sys.argv[1] == "-":
    tasks.serve(lambda task: train(pathlib.Path(task["runs"][0]), task["log"]))
else:
    train(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[1]) / "log.txt")
"""
COMMAND = (sys.executable, "-S", "-c", TRAINER)
# A worker whose process trains as above. JAX is not loaded in it, as in any worker: it forks.
WORKER = f"""
import pathlib
from mdlm_jax.runs import attempts
from mdlm_jax.sweeps import tasks, work
me = attempts.this_process()
with work.in_kept_process({COMMAND!r}) as start:
    tasks.serve(lambda task: work.EXIT_CODES[work.work({{pathlib.Path(task["run"]): 0}}, me, start)])
"""


@pytest.fixture
def worker():
    process = tasks.start([sys.executable, "-S", "-c", WORKER])
    yield process
    tasks.finish(process)


def asked(worker, parent, name, process="absorbing"):
    """Has a worker train a run of this name."""
    folder = parent / name
    folder.mkdir()
    keys = {"name": "masked", "process": process, "schedule": "linear"}
    (folder / "config.json").write_text(json.dumps({"objective": keys}))
    assert tasks.give(worker, {"run": str(folder)}, lambda: None) is worker
    return folder


def trained(worker, parent, name, process="absorbing"):
    """(how the run ended, the cause, the process that trained it)."""
    folder = asked(worker, parent, name, process)
    assert tasks.ended(worker, 60.0) is not None
    last = attempts.last_attempt(folder)
    return last.outcome, last.cause, int((folder / "log.txt").read_text().split()[0])


def test_failed_run_takes_only_its_process(tmp_path, worker):
    names = ("a", "b", "fails", "c", "is killed", "d", "aborts", "e", "f")
    found = {name: trained(worker, tmp_path, name) for name in names}
    assert {name: end[:2] for name, end in found.items()} == {
        **dict.fromkeys("abcdef", ("done", "")),
        "fails": ("failed", "exit code 3: the last words"),
        "is killed": ("failed", f"killed by SIGKILL: {found['is killed'][2]}"),
        "aborts": ("failed", f"killed by SIGABRT: {found['aborts'][2]}"),
    }
    processes = [process for *_, process in found.values()]
    assert [processes.index(process) for process in processes] == [0, 0, 0, 3, 3, 5, 5, 7, 7]
    assert (tmp_path / "b" / "log.txt").read_text() == f"{processes[0]}\n", "its own lines alone"


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "cancelled"])
def test_stopped_run_takes_only_its_process(tmp_path, worker, how):
    before = trained(worker, tmp_path, "a")
    folder = asked(worker, tmp_path, "waits")
    while not (folder / "log.txt").exists() or not (folder / "log.txt").read_text():
        time.sleep(0.01)
    time.sleep(0.1)
    if how == "cancelled":
        (folder / attempts.CANCELLED).touch()
    else:
        worker.send_signal(signal.Signals[how])
    assert tasks.ended(worker, 60.0) == work.EXIT_CODES["stopped"]
    assert attempts.last_attempt(folder).cause == how
    after = trained(worker, tmp_path, "b")
    assert int((folder / "log.txt").read_text()) == before[2] != after[2] and after[0] == "done"


def test_process_that_died_without_a_run_is_replaced(tmp_path, worker):
    *_, process = trained(worker, tmp_path, "a")
    os.kill(process, signal.SIGKILL)
    assert trained(worker, tmp_path, "b")[:2] == ("done", "")


def test_process_ends_with_its_worker(tmp_path, worker):
    *_, process = trained(worker, tmp_path, "a")
    worker.kill()
    assert tasks.ended(worker, 60.0) == -signal.SIGKILL
    end = time.monotonic() + 60
    while attempts._began(process):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_own_code_has_its_own_process(tmp_path, worker):
    processes = ("absorbing", "mine.py:process", "absorbing")
    a, b, c = (trained(worker, tmp_path, name, it)[2] for name, it in zip("abc", processes, strict=True))
    assert a == c != b


def leave_level():
    trainer.logging.getLogger().setLevel(7)


@pytest.mark.parametrize(
    "leave",
    [
        lambda: os.environ.update(SEEN="1"),
        lambda: os.chdir("/"),
        lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
        lambda: jax.config.update("jax_numpy_rank_promotion", "raise"),
        lambda: random.seed(0),
        lambda: np.random.seed(0),
        leave_level,
        lambda: sys.path.append("/"),
    ],
    ids=["environment", "folder", "signal", "jax", "random", "numpy", "logging", "imports"],
)
def test_changed_process_is_noticed(leave, monkeypatch):
    """A process that a run leaves other than it was ends with that run."""
    before, folder, level = trainer._state(), os.getcwd(), trainer.logging.getLogger().level
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    try:
        assert trainer._state() == before
        leave()
        assert trainer._state() != before
    finally:
        os.chdir(folder)
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        jax.config.update("jax_numpy_rank_promotion", "allow")
        trainer.logging.getLogger().setLevel(level)


def job(name, flops, shape=None, steps=1):
    return Job(pathlib.Path(name), flops, steps, shape=shape)


def names(jobs):
    return "".join(job.folder.name for job in jobs)


def test_small_steps_take_longer_than_their_flops():
    """On one core: 1 ms for each step, and 20 ms for 1e9 FLOPs."""
    jobs = [job("a", 1e11, steps=1000), job("b", 5e10, steps=3000), job("c", 1.2e11, steps=500)]
    assert names(longest_first(jobs, CORE_STEP)) == "bac"


def test_workers_stay_with_their_shape():
    jobs = [job("a", 9e12, "x"), job("b", 8e12, "y"), job("c", 7e12, "x"), job("d", 6e12, "z"), job("e", 5e12, "y")]
    assert names(preferred(jobs, CORE_STEP)) == "abcde"
    assert names(preferred(jobs, CORE_STEP, "y", {"x"})) == "bedac"
    assert names(preferred(jobs, CORE_STEP, "w", {"x", "y", "z"})) == "abcde"


def child_of(pid):
    return int(pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text())


LONG = {"objective__name": "masked", "train__checkpoint_every": 40, "train__log_every": 20}
RUNS = {"a": {"steps": 12}, "b": {"steps": 240, "seed": 1}, "c": {"steps": 200, "optim__lr": 3e-3}}


def losses(folder):
    """Step -> loss, without the line of the first step after a resume."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if "loss" in line and line["step"] % 20 == 0}


@pytest.mark.slow
def test_killed_and_stopped_runs_equal_undisturbed_ones(tmp_path):
    """SIGKILL of the process in the second run, Ctrl-C in the third: both resume, and no result differs by a bit.

    The first two runs have the same process: a run that ends well leaves it as it was.
    """
    configs = {name: config_of(**LONG | keys) for name, keys in RUNS.items()}
    jobs = []
    for name, config in configs.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(to_json(config))
        jobs.append(Job(tmp_path / name, 1.0, 1, shape=shape_of(config)))
    done, processes = set(), {}

    def disturb(snapshot):
        for it in snapshot.running:
            name = it.job.folder.name
            if (it.job.folder / "metrics.jsonl").exists():
                processes.setdefault(name, child_of(it.process.pid))
            if name in "bc" and name not in done and saved_steps(it.job.folder / "checkpoints"):
                done.add(name)
                if name == "b":
                    os.kill(processes[name], signal.SIGKILL)
                else:
                    os.kill(os.getpid(), signal.SIGINT)

    slots = [Slot(frozenset(), {})]
    first = {run.job.folder.name: run.outcome for run in run_pool(jobs, slots, is_done, disturb)}
    assert first == {"a": "done", "b": "failed", "c": "stopped"}
    assert processes["a"] == processes["b"] != processes["c"]
    assert attempts.last_attempt(tmp_path / "b").cause.startswith("killed by SIGKILL")
    forgiven = [it._replace(forgiven=attempts.count(it.folder)) for it in jobs]
    second = {run.job.folder.name: run.outcome for run in run_pool(forgiven, slots, is_done, lambda _: None)}
    assert second == {"a": "done", "b": "done", "c": "done"}
    assert [attempts.count(tmp_path / name) for name in "abc"] == [1, 2, 2]

    programs = {}
    for name, config in configs.items():
        with signals_as_before():
            train_all([config], [tmp_path / "alone" / name], programs=programs)
        one, other = tmp_path / name, tmp_path / "alone" / name
        assert losses(one) == losses(other)
        assert read_result(one / "result.json").loss == read_result(other / "result.json").loss
        assert_same_state(one, other)
