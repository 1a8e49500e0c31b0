"""Cluster faults on real runs: the rows of docs/how-to/faults.md that no other test here covers."""

import json
import shutil
import signal
import subprocess
import sys

import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.runs.run_folder import claim_folder
from tests import run_folders as runs
from tests.runs.here import assert_same_state, config_of
from tests.runs.test_resume import last_checkpoint, wait_for

PEER_SECONDS = 130.0  # where no connection breaks, it is the heartbeat that tells: 100


@pytest.mark.slow
def test_full_and_read_only_disks(tmp_path):
    """Runs resume after a full disk and after a read-only one, and end as undisturbed runs do.

    The disks are mounted in a user namespace, which needs no privilege.
    """
    assert shutil.which("unshare"), "util-linux is not here"
    command = ["unshare", "-rm", sys.executable, "-m", "tests.runs.disk_faults", str(tmp_path)]
    done = subprocess.run(command, env=runs.environment(), cwd=runs.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    codes = {name: attempt["code"] for name, attempt in found.items()}
    assert codes == {
        "undisturbed": 0,
        "full": 2,
        "still full": 2,
        "with room": 0,
        "read-only meanwhile": 2,
        "read-only at the start": 2,
        "writable": 0,
    }
    for name, reason in (("full", "No space left on device"), ("read-only meanwhile", "Read-only file system")):
        (line,) = found[name]["said"]
        assert f"cannot be written ({reason})" in line and "run the same command to resume" in line
        assert 5 <= found[name]["whole"] < 60
    # what was whole stays so, however often it is tried; without what was cut short there may be room for one more
    for again, before in (("still full", "full"), ("read-only at the start", "read-only meanwhile")):
        assert found[again]["said"] == found[before]["said"]
        assert found[before]["whole"] <= found[again]["whole"] < 60


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_peer_death_ends_the_run(tmp_path, free_port, victim):
    """When either process dies the other exits, and a restart resumes. Process 0 hosts the coordinator."""
    run, keys = tmp_path / "run", {"steps": 100_000, "train__checkpoint_every": 10}

    def both(port: int):
        joined = ("--coordinator", f"localhost:{port}", "--processes", "2", "--process")
        return [runs.start(run, *joined, str(rank), **keys) for rank in range(2)]

    processes = both(free_port)
    wait_for(lambda: (run / "checkpoints").exists() and last_checkpoint(run))
    processes[victim].send_signal(signal.SIGKILL)
    out, err = processes[1 - victim].communicate(timeout=PEER_SECONDS)
    assert processes[1 - victim].returncode not in (0, 2)
    assert "another" in err, err  # in our words, or in those of jax.distributed
    processes[victim].communicate()
    before = last_checkpoint(run)
    processes = both(free_port)
    wait_for(lambda: last_checkpoint(run) > before)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        runs.finish(process)
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, steps[-1] + 1)), "every step once"


@pytest.mark.slow
def test_three_random_kills_change_nothing(tmp_path):
    """`benchmarks/kill_fifty.py` does the same with fifty kills."""
    from benchmarks.kill_fifty import study

    found = study(tmp_path, steps=300, at_any=2, at_end=1, seed=0)
    assert found["kills"] == 3 and found["exit_code"] == 0 and found["losses_equal"] and found["result_equal"]
    assert_same_state(tmp_path / "whole", tmp_path / "killed")


def test_other_config_is_refused(tmp_path):
    """The message names each differing key with both values."""
    folder = tmp_path / "run"
    claim_folder(config_of(steps=1, optim__lr=0.01), folder)
    claim_folder(config_of(steps=1, optim__lr=0.01), folder)
    with pytest.raises(UserError, match="differs in optim.lr: 0.01 -> 0.02; steps: 1 -> 2; choose another --run$"):
        claim_folder(config_of(steps=2, optim__lr=0.02), folder)
