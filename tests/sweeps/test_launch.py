"""The pool, with children that only write a file: order, failures, claims and signals."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.runs import attempts
from mdlm_jax.sweeps import launch
from mdlm_jax.sweeps.launch import Job, Slot, run_pool

ROOT = pathlib.Path(__file__).resolve().parents[2]
ANY_CORE = Slot(frozenset(), {})

# Of each folder: appends its name to `order`; waits and then fails, where the folder says so; else writes `done`.
CHILD = """
import os, pathlib, signal, sys, time
folders, code, told = [pathlib.Path(name) for name in sys.argv[1:]], 0, []
signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
for folder in folders:
    with open(folder.parent / "order", "a") as order:
        order.write(folder.name + "\\n")
for folder in folders:
    while (folder / "waits").exists() and not told:
        time.sleep(0.02)
    if (folder / "fails").exists():
        print("the last words"); code = 3
    elif told:
        (folder / "saved").touch()
    else:
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else []
        (folder / "result.json").write_text('{"status": "done"}')
        (folder / "done").write_text(",".join(map(str, cores)) + " " + os.environ.get("SEEN", ""))
sys.exit(code)
"""
COMMAND = (sys.executable, "-S", "-c", CHILD)
# A pool in a process of its own, on the folders named after its script.
POOL = f"""
import pathlib, sys
from mdlm_jax.sweeps.launch import Job, Slot, run_pool
jobs = [Job(pathlib.Path(name), 1.0, 1) for name in sys.argv[1:]]
slots = [Slot(frozenset(), {{}})] * 2
ended = run_pool(jobs, slots, lambda run: (run / "done").exists(), lambda pool: None, {COMMAND!r})
print(*sorted(f"{{run.job.folder.name}}={{run.outcome}}" for run in ended))
"""


def folders(parent, *names, **marks):
    """A folder for each name; marks are files to put into some of them."""
    for name in names:
        (parent / name).mkdir()
    for mark, name in marks.items():
        (parent / name / mark).touch()
    return [parent / name for name in names]


def is_done(folder):
    return (folder / "done").exists()


def pool(jobs, slots=(ANY_CORE,), watch=lambda snapshot: None):
    return {run.job.folder.name: run for run in run_pool(jobs, slots, is_done, watch, COMMAND)}


def start_pool(paths):
    return subprocess.Popen(
        [sys.executable, "-c", POOL, *map(str, paths)], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ
    )


def started(parent):
    return (parent / "order").read_text().split() if (parent / "order").exists() else []


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def test_longest_run_starts_first(tmp_path):
    """With equal FLOPs, the run with more steps starts first."""
    short, long, slow = folders(tmp_path, "short", "long", "slow")
    ended = pool([Job(short, 1e13, 9), Job(long, 3e13, 1), Job(slow, 3e13, 2)])
    assert started(tmp_path) == ["slow", "long", "short"]
    assert {run.outcome for run in ended.values()} == {"done"}


def test_running_runs_never_exceed_slots(tmp_path):
    jobs = [Job(folder, 1.0, 1) for folder in folders(tmp_path, *"abcdef")]
    seen = []
    pool(jobs, [ANY_CORE] * 2, lambda snapshot: seen.append(len(snapshot.running)))
    assert max(seen) == 2
    assert sorted(started(tmp_path)) == list("abcdef")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process")
def test_run_gets_cores_and_environment(tmp_path):
    """The pool keeps its own cores."""
    before = os.sched_getaffinity(0)
    core = max(before)
    (run,) = folders(tmp_path, "a")
    pool([Job(run, 1.0, 1)], [Slot(frozenset({core}), {"SEEN": "device 7"})])
    assert (run / "done").read_text() == f"{core} device 7"
    assert os.sched_getaffinity(0) == before


def test_failure_does_not_stop_others(tmp_path):
    """The log of the failed run is kept."""
    jobs = [Job(folder, 1.0, 1) for folder in folders(tmp_path, "a", "b", "c", fails="a")]
    ended = pool(jobs)
    assert {name: run.outcome for name, run in ended.items()} == {"a": "failed", "b": "done", "c": "done"}
    assert ended["a"].exit_code == 3
    assert (tmp_path / "a" / "log.txt").read_text() == "the last words\n"
    assert ended["a"].cause == "exit code 3: the last words"
    last = attempts.last_attempt(tmp_path / "a")
    assert (last.number, last.outcome, last.cause) == (1, "failed", "exit code 3: the last words")


def together(paths):
    lead, *mates = (Job(path, 1.0, 1) for path in paths)
    return lead._replace(mates=tuple(mates))


def test_population_members_end_separately(tmp_path):
    ended = pool([together(folders(tmp_path, "a", "b", "c", fails="b"))])
    assert {name: run.outcome for name, run in ended.items()} == {"a": "done", "b": "failed", "c": "done"}
    owners = [attempts.last_attempt(tmp_path / name).owner for name in "abc"]
    assert len(set(owners)) == 1 and started(tmp_path) == ["a", "b", "c"]
    assert ended["b"].cause == "exit code 3: the last words"
    assert f"trained together with {tmp_path / 'a'}" in (tmp_path / "b" / "log.txt").read_text()


def test_patience_ends_the_wait_for_a_held_run(tmp_path):
    """A pool without a run of its own ends without the runs that a living process holds."""
    held, free = folders(tmp_path, "held", "free")
    claim = attempts.claim(held, attempts.this_process("another job"), 0)
    jobs = [Job(held, 2.0, 1), Job(free, 1.0, 1)]
    ended = run_pool(jobs, [ANY_CORE], is_done, lambda _: None, COMMAND, patience=0.5)
    assert [(run.job.folder.name, run.outcome) for run in ended] == [("free", "done")]
    attempts.end(held, claim, "stopped", 0, "")
    assert pool(jobs)["held"].outcome == "done"


def test_pool_waits_for_claimed_member(tmp_path):
    a, b, c = folders(tmp_path, "a", "b", "c", waits="b", fails="c")
    process = start_pool([b])
    wait_for(lambda: started(tmp_path) == ["b"])

    def watch(snapshot):
        if len(snapshot.ended) == 2 and (b / "waits").exists():
            (b / "waits").unlink()

    ended = pool([together([a, b, c])], watch=watch)
    assert process.communicate(timeout=60)[0].strip() == "b=done"
    assert {name: run.outcome for name, run in ended.items()} == {"a": "done", "b": "done", "c": "failed"}
    assert started(tmp_path) == ["b", "a", "c"]


def test_done_run_is_not_repeated(tmp_path):
    jobs = [Job(folder, 1.0, 1) for folder in folders(tmp_path, "a", "b", done="a")]
    assert {run.outcome for run in pool(jobs).values()} == {"done"}
    assert started(tmp_path) == ["b"]


def test_two_pools_share_the_runs(tmp_path):
    """No run starts twice."""
    paths = folders(tmp_path, *(f"run{i}" for i in range(12)), fails="run3")
    for path in paths:
        (path / "waits").touch()
    pools = [start_pool(paths), start_pool(paths)]
    wait_for(lambda: len(started(tmp_path)) == 4)  # two slots each, so both are at work
    for path in paths:
        (path / "waits").unlink()
    expected = " ".join(sorted(f"run{i}={'failed' if i == 3 else 'done'}" for i in range(12)))
    assert [process.communicate(timeout=60)[0].strip() for process in pools] == [expected] * 2
    assert sorted(started(tmp_path)) == sorted(path.name for path in paths)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_stops_the_runs(tmp_path, number):
    """The pool passes the signal on and starts no more runs; another pool completes them."""
    paths = folders(tmp_path, "a", "b", "c")
    for path in paths:
        (path / "waits").touch()
    process = start_pool(paths)
    wait_for(lambda: len(started(tmp_path)) == 2)
    process.send_signal(number)
    assert process.communicate(timeout=60)[0].strip() == "a=stopped b=stopped"
    assert process.returncode == 0
    assert [(path / "saved").exists() for path in paths] == [True, True, False]
    for path in paths:
        (path / "waits").unlink()
    ended = pool([Job(path, 1.0, 1) for path in paths])
    assert {run.outcome for run in ended.values()} == {"done"}


def test_killed_pool_keeps_its_claims(tmp_path):
    """Its runs stay claimed until they end."""
    a, b = folders(tmp_path, "a", "b", waits="a")
    process = start_pool([a])
    wait_for(lambda: started(tmp_path) == ["a"])
    process.kill()
    process.communicate()
    assert attempts.is_running(a), "its process lives"

    def watch(snapshot):  # the other run ends meanwhile; then the orphan is let go
        if {run.job.folder.name for run in snapshot.ended} == {"b"} and (a / "waits").exists():
            (a / "waits").unlink()

    ended = pool([Job(a, 2.0, 1), Job(b, 1.0, 1)], watch=watch)
    assert {name: (run.outcome, run.seconds > 0) for name, run in ended.items()} == {
        "a": ("done", False),
        "b": ("done", True),
    }
    assert started(tmp_path) == ["a", "b"]


def test_dead_worker_frees_its_run(tmp_path):
    """Its training process dies with it."""
    (run,) = folders(tmp_path, "a", waits="a")
    process = start_pool([run])
    wait_for(lambda: started(tmp_path) == ["a"])
    process.kill()
    os.kill(attempts.last_attempt(run).owner.pid, signal.SIGKILL)
    process.communicate()
    wait_for(lambda: not attempts.is_running(run))
    (run / "waits").unlink()
    time.sleep(0.2)
    assert not is_done(run), "what trained it would have ended by itself"
    assert pool([Job(run, 1.0, 1)])["a"].outcome == "done"
    assert started(tmp_path) == ["a", "a"]


def test_shares_of_devices():
    assert launch.shares(4, 0) == [[0], [1], [2], [3]]
    assert launch.shares(4, 2) == [[0, 1], [2, 3]]
    assert launch.shares(8, 3) == [[0, 1], [2, 3], [4, 5]]
    assert launch.shares(2, 3) == [[0], [1], [0]]


def probe(monkeypatch, text):
    answer = subprocess.CompletedProcess([], 0, stdout=text, stderr="")
    monkeypatch.setattr(launch.subprocess, "run", lambda *arguments, **options: answer)


def test_workers_share_gpus(monkeypatch):
    """Each GPU is one `Slot`; more workers than GPUs divide the memory."""
    probe(monkeypatch, "gpu 2\n")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [slot.environment for slot in launch.slots()] == [
        {"CUDA_VISIBLE_DEVICES": "0"},
        {"CUDA_VISIBLE_DEVICES": "1"},
    ]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    shared = [slot.environment for slot in launch.slots(4)]
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in shared] == ["5", "7", "5", "7"]
    assert {environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] for environment in shared} == {"0.450"}


def test_tpu_chips_are_not_shared(monkeypatch):
    probe(monkeypatch, "tpu 4\n")
    assert [slot.environment["TPU_VISIBLE_CHIPS"] for slot in launch.slots()] == ["0", "1", "2", "3"]
    assert launch.slots(1) == [ANY_CORE]
    with pytest.raises(UserError, match="--workers=8; accepted on 4 tpu devices: 0, 1 or 4"):
        launch.slots(8)


def test_cores_of_this_machine():
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system pins no process")
    mine = os.sched_getaffinity(0)
    assert [slot.cores for slot in launch.slots()] == [frozenset({core}) for core in sorted(mine)]
    assert launch.slots(1) == [Slot(frozenset(mine), {})]
    with pytest.raises(UserError, match="--workers=-1"):
        launch.slots(-1)
