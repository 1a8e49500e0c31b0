"""Kills processes of a running sweep 50 times, restarts it, and compares all of its runs with an undisturbed sweep.

    python benchmarks/kill_workers.py [KILLS] [SEED]

At random moments one process of the sweep dies by SIGKILL: the pool, a worker, or the process in which a worker trains
run after run. `sweep run` is called again where the pool died, and `sweep retry` where runs have failed, as those do
whose training process is killed. Then every run must have the losses, the result and the weights of the same run in the
sweep that nothing disturbed. Writes results/kill_workers.json.
"""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
RESULTS = ROOT / "benchmarks" / "results"
EXPERIMENT = '''
"""Runs of two shapes."""
import itertools
import mdlm_jax as mj
TITLE = "Runs that are killed"
def grid():
    for (name, size), seed in itertools.product((("ar", "0.53k"), ("masked", "4.7k")), range(6)):
        config = mj.load_config("quickstart")
        config.objective.name, config.model.size, config.seed = name, size, seed
        config.budget, config.steps = 0.0, 16_000
        config.train.checkpoint_every, config.train.log_every = 500, 50
        config.eval.sequences, config.eval.draws = 64, 2
        yield config
'''
SHARES = {"pool": 1, "worker": 2, "training process": 3}  # of the kills
ROLES = {"sweep run": "pool", "sweep retry": "pool", "sweep work": "worker", "train --run": "training process"}


def start(folder: pathlib.Path, before: int | None = None) -> subprocess.Popen:
    """Starts the sweep, or continues one that ended with the exit code `before`."""
    with (folder / "log.txt").open("a") as log:
        verb = "retry" if before == 1 else "run"
        words = [sys.executable, "-m", "mdlm_jax", "sweep", verb, str(folder / "experiment.py")]
        return subprocess.Popen(
            [*words, "--folder", str(folder / "runs"), "--workers", "2"], cwd=ROOT, stdout=log, stderr=log
        )


def tree(pid: int) -> list[int]:
    """A process and all of its descendants."""
    try:
        tasks = list(pathlib.Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [pid, *(found for child in children for found in tree(child))]


def role(pid: int) -> str | None:
    try:
        line = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return next((name for words, name in ROLES.items() if words in line), None)


def wait_for_orphans(pids: list[int]) -> None:
    """Workers of a killed pool end after their run; another pool takes over what their death leaves."""
    while any(role(pid) for pid in pids):
        time.sleep(0.2)


def kill_one(draw: random.Random, process: subprocess.Popen) -> str | None:
    """Kills a process of the sweep; the role it had, "" while nothing trains, None where the sweep has ended."""
    pids = tree(process.pid)
    by_role = {}
    for pid in pids:
        if name := role(pid):
            by_role.setdefault(name, []).append(pid)
    if not by_role or process.poll() is not None:
        return None
    if "training process" not in by_role:
        return ""
    name = draw.choices(sorted(by_role), [SHARES[name] for name in sorted(by_role)])[0]
    os.kill(draw.choice(by_role[name]), signal.SIGKILL)
    if name == "pool":
        process.wait()
        for pid in pids:  # as an out-of-memory killer does that ends a whole session
            if draw.random() < 0.5 and role(pid):
                os.kill(pid, signal.SIGKILL)
        wait_for_orphans(pids)
    return name


def differences(one: pathlib.Path, other: pathlib.Path) -> list[str]:
    """What differs between two finished runs."""
    from tests.runs.here import assert_same_state

    found, losses = [], []
    for folder in (one, other):
        lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        losses.append({line["step"]: line["loss"] for line in lines if "loss" in line and line["step"] % 50 == 0})
    results = [json.loads((folder / "result.json").read_text()) for folder in (one, other)]
    found += ["losses"] if losses[0] != losses[1] else []
    found += ["result"] if results[0]["loss"] != results[1]["loss"] else []
    try:
        assert_same_state(one, other)
    except AssertionError:
        found.append("weights")
    return found


def main(kills: int, seed: int) -> None:
    from mdlm_jax.bench.suite import machine
    from mdlm_jax.files import write_whole

    draw, parent, killed = random.Random(seed), pathlib.Path(tempfile.mkdtemp()), []
    for name in ("whole", "killed"):
        (parent / name).mkdir()
        (parent / name / "experiment.py").write_text(EXPERIMENT)
    begun = time.monotonic()
    assert start(parent / "whole").wait() == 0, f"the undisturbed sweep failed; see {parent}"
    seconds, starts, process = time.monotonic() - begun, 1, start(parent / "killed")
    while len(killed) < kills:
        time.sleep(draw.uniform(0.5, 8))
        if process.poll() is not None or (name := kill_one(draw, process)) is None:
            if process.poll() == 0:
                raise SystemExit(f"the sweep ended after {len(killed)} kills; see {parent}")
            process, starts = start(parent / "killed", process.wait()), starts + 1
            continue
        if name:
            killed.append(name)
            print(len(killed), name, flush=True)
    while (code := process.wait()) != 0:
        process, starts = start(parent / "killed", code), starts + 1
    runs = sorted(path.parent.name for path in (parent / "whole" / "runs").glob("*/result.json"))
    differing = {run: differences(*(parent / name / "runs" / run for name in ("whole", "killed"))) for run in runs}
    found = {
        "command": f"python benchmarks/kill_workers.py {kills} {seed}",
        "machine": machine(),
        "kills": Counter(killed),
        "starts_of_the_sweep": starts,
        "runs": len(runs),
        "seconds_undisturbed": round(seconds, 1),
        "runs_that_differ": {run: what for run, what in differing.items() if what},
    }
    write_whole(RESULTS / "kill_workers.json", json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(int((sys.argv[1:] or ["50"])[0]), int((sys.argv[2:] or ["0"])[0]))
