"""Claims on a run by processes that live, have died, froze or come back."""

import json
import os
import subprocess
import sys
import time

import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.runs import attempts
from mdlm_jax.runs.attempts import LEASE_SECONDS, Owner, this_process
from mdlm_jax.sweeps import work
from mdlm_jax.sweeps.states import state_of
from tests import run_folders as runs

ELSEWHERE = Owner("another host", "another kernel", 1, "1", "", 0)
CLAIM = """
import pathlib, sys
from mdlm_jax.runs.attempts import claim, this_process
print(claim(pathlib.Path(sys.argv[1]), this_process(), 0) is not None)
"""
RACE = """
import pathlib, sys, time
from mdlm_jax.runs.attempts import claim, this_process
owner = this_process()
print("ready", flush=True)
start = float(sys.stdin.readline())
for number in range(ROUNDS):
    while time.time() < start + 0.02 * number: pass
    print(claim(pathlib.Path(sys.argv[1], str(number)), owner, 0) is not None)
sys.stdout.flush()
sys.stdin.readline()  # whoever won lives until all have tried
"""
ROUNDS = 25


def claim(folder, owner=None, forgiven=0):
    return attempts.claim(folder, owner or this_process(), forgiven)


def end(folder, attempt, outcome):
    attempts.end(folder, attempt, outcome, 0, "")


def age(folder, number, seconds):
    then = time.time() - seconds
    os.utime(attempts.path_of(folder, number), (then, then))


def test_one_of_many_claims_wins(tmp_path):
    """Six processes, all ready before the first round, claim each run at the same moment."""
    words = [sys.executable, "-c", RACE.replace("ROUNDS", str(ROUNDS)), str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(words, cwd=runs.ROOT, **pipes) for _ in range(6)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 6
    start = time.time() + 0.2
    for process in processes:
        process.stdin.write(f"{start}\n")
        process.stdin.flush()
    answers = [[process.stdout.readline().strip() for _ in range(ROUNDS)] for process in processes]
    for process in processes:
        process.communicate(timeout=60)
    assert [sum(won == "True" for won in rounds) for rounds in zip(*answers, strict=True)] == [1] * ROUNDS
    assert all(attempts.count(tmp_path / str(number)) == 1 for number in range(ROUNDS))
    assert not list(tmp_path.glob("*/attempts/.*")), "nothing is left lying about"


def test_claim_between_check_and_write(tmp_path, monkeypatch):
    """Another process claims the run just after this one saw that it is free."""
    end(tmp_path, claim(tmp_path), "stopped")
    is_free = attempts._is_free

    def slow(*arguments):
        found = is_free(*arguments)
        monkeypatch.undo()
        assert claim(tmp_path, ELSEWHERE).number == 2
        return found

    monkeypatch.setattr(attempts, "_is_free", slow)
    assert claim(tmp_path) is None
    assert attempts.last_attempt(tmp_path).owner == ELSEWHERE


def test_reused_pid_is_another_process(tmp_path):
    claim(tmp_path, this_process()._replace(began="1"))
    assert not attempts.is_running(tmp_path)
    assert claim(tmp_path).number == 2 and attempts.is_running(tmp_path)


def test_dead_owner_loses_the_claim(tmp_path):
    assert claim(tmp_path).number == 1
    assert claim(tmp_path) is None and attempts.is_running(tmp_path)
    dead = subprocess.run([sys.executable, "-c", CLAIM, str(tmp_path / "b")], cwd=runs.ROOT)
    assert dead.returncode == 0
    assert not attempts.is_running(tmp_path / "b")
    assert claim(tmp_path / "b").number == 2


def test_silent_remote_owner_expires(tmp_path):
    first = claim(tmp_path, ELSEWHERE)
    assert claim(tmp_path) is None
    age(tmp_path, 1, LEASE_SECONDS - 30)
    assert claim(tmp_path) is None
    attempts.beat(tmp_path, first)
    age(tmp_path, 1, LEASE_SECONDS + 30)
    assert not attempts.is_superseded(tmp_path, first)
    assert claim(tmp_path).number == 2
    assert attempts.is_superseded(tmp_path, first), "which it is told if it wakes"


def test_a_time_in_the_future_is_no_life(tmp_path):
    """Of a machine whose clock was wrong: neither the file nor the record keeps a silent owner alive."""
    claim(tmp_path, ELSEWHERE)
    age(tmp_path, 1, -LEASE_SECONDS - 30)
    assert not attempts.is_running(tmp_path)
    assert state_of(tmp_path, {}).state == "stopped"
    assert claim(tmp_path).number == 2
    ahead = attempts.last_attempt(tmp_path)._replace(started=time.time() + 1e6)
    attempts.path_of(tmp_path, 2).write_text(attempts._to_json(ahead))
    assert state_of(tmp_path, {}).state == "running" and state_of(tmp_path, {}).seconds == 0
    assert not attempts.is_mate(ahead, ahead.owner)


@pytest.mark.parametrize(("outcome", "free"), [("done", False), ("failed", False), ("stopped", True)])
def test_ended_run_needs_forgiveness(tmp_path, outcome, free):
    """A done or failed run is claimed again only if that attempt is forgiven; a stopped one is free."""
    end(tmp_path, claim(tmp_path), outcome)
    assert (claim(tmp_path) is not None) == free
    if not free:
        assert claim(tmp_path, forgiven=1).number == 2


def test_restarted_job_takes_over(tmp_path):
    """The scheduler killed the job, so its open attempt has no owner, however recent it is."""
    claim(tmp_path, ELSEWHERE._replace(job="slurm 7_1"))
    assert claim(tmp_path, this_process("slurm 7_2", 1)) is None
    again = this_process("slurm 7_1", 1)
    assert claim(tmp_path, again).number == 2
    end(tmp_path, attempts.last_attempt(tmp_path), "done")
    assert claim(tmp_path, this_process("slurm 7_1", 2)) is None, "done is done"


def test_mates_share_a_job_and_its_restart(tmp_path):
    mine = claim(tmp_path, this_process("slurm 7_1", 1))
    assert attempts.is_mate(mine, ELSEWHERE._replace(job="slurm 7_1", restart=1))
    assert not attempts.is_mate(mine, ELSEWHERE._replace(job="slurm 7_1"))
    late = mine._replace(started=time.time() - attempts.JOIN_SECONDS)
    assert not attempts.is_mate(late, ELSEWHERE._replace(job="slurm 7_1", restart=1))
    assert not attempts.is_mate(claim(tmp_path / "b"), ELSEWHERE)


def test_broken_record_is_a_failure(tmp_path):
    claim(tmp_path)
    attempts.path_of(tmp_path, 1).write_text('{"number": 1')
    last = attempts.last_attempt(tmp_path)
    assert last.outcome == "failed" and last.cause.startswith(f"{tmp_path}/attempts/1.json: not the record of an")
    assert claim(tmp_path) is None
    assert claim(tmp_path, forgiven=1).number == 2


def test_unwritable_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="accepted: a disk to write to"):
        claim(tmp_path / "file")


SLEEP = "import time; print('words', flush=True); time.sleep(60)"


def worker(folder, code, forgiven=0):
    """As a launcher starts it, in a process of its own."""
    command = work.work_command({folder: forgiven}, command=[sys.executable, "-S", "-c", code])
    return subprocess.Popen(command, cwd=runs.ROOT)


def ended(folder, number=1):
    return json.loads(attempts.path_of(folder, number).read_text())


def trains(folder):
    while not (folder / "log.txt").exists() or not (folder / "log.txt").read_text():
        time.sleep(0.05)
    return True


def test_superseded_run_is_killed(tmp_path):
    """This happens when a machine stood still for longer than the lease."""
    process = worker(tmp_path, SLEEP)
    assert trains(tmp_path)
    os.link(attempts.path_of(tmp_path, 1), attempts.path_of(tmp_path, 2))
    assert process.wait(timeout=60) == work.EXIT_CODES["stopped"]
    assert (ended(tmp_path)["cause"], ended(tmp_path)["exit_code"]) == ("lost", -9)


def test_cancelled_run_is_stopped(tmp_path):
    process = worker(tmp_path, SLEEP)
    assert trains(tmp_path)
    (tmp_path / attempts.CANCELLED).touch()
    assert process.wait(timeout=60) == work.EXIT_CODES["stopped"]
    assert ended(tmp_path)["cause"] == "cancelled"
    assert worker(tmp_path, SLEEP).wait(timeout=60) == work.EXIT_CODES["elsewhere"]
    assert attempts.count(tmp_path) == 1


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("import os; os.kill(os.getpid(), 11)", "killed by SIGSEGV"),
        ("raise ValueError('the reason')", "exit code 1: ValueError: the reason"),
    ],
)
def test_failure_has_a_cause(tmp_path, code, cause):
    """The cause is the signal that killed the run, or else its last line."""
    assert worker(tmp_path, code).wait(timeout=60) == work.EXIT_CODES["failed"]
    assert ended(tmp_path)["cause"] == cause
    assert worker(tmp_path, code).wait(timeout=60) == work.EXIT_CODES["elsewhere"], "and is not repeated"
    assert worker(tmp_path, code, forgiven=1).wait(timeout=60) == work.EXIT_CODES["failed"], "unless asked for"


@pytest.mark.parametrize(("restart", "free"), [(0, False), (1, False), (2, True)])
def test_only_a_later_restart_takes_over(tmp_path, restart, free):
    """Restart 1 of a job holds the run; restarts 0 and 1 cannot claim it, restart 2 can."""
    assert claim(tmp_path, ELSEWHERE._replace(job="slurm-1", restart=1)).number == 1
    assert (claim(tmp_path, ELSEWHERE._replace(job="slurm-1", restart=restart)) is not None) == free
