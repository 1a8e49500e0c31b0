"""Kills one run 50 times at random moments, restarts it each time, and compares its weights with an undisturbed run.

    python benchmarks/kill_fifty.py

Moments are drawn in CPU time of the process, so that a busy machine does not shift them. Most lie between the start and
1.5 times the CPU time of the first step; the last eight lie after the last step, during evaluation and result.json.
"""

import argparse
import json
import os
import pathlib
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import jax  # noqa: E402
import numpy as np  # noqa: E402

from mdlm_jax.files import write_whole  # noqa: E402
from tests import run_folders as runs  # noqa: E402

KEYS = {"train__checkpoint_every": 5, "train__log_every": 5, "optim__ema": 0.9}
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(process: subprocess.Popen) -> float:
    """CPU seconds of all threads of a child; its final value once the child has ended."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def wait(process: subprocess.Popen, condition: Callable[[], bool]) -> bool:
    """Whether the condition held before the process ended."""
    while process.poll() is None:
        if condition():
            return True
        time.sleep(0.002)
    return False


def last_step(folder: pathlib.Path) -> int:
    """The newest step in metrics.jsonl."""
    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - 4096, 0))
            lines = file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return 0
    return json.loads(lines[-1])["step"] if lines else 0


def left(folder: pathlib.Path, steps: int, before: int) -> str:
    """The state in which a kill left a run that had taken `before` steps, read from its files."""
    if (folder / "result.json").exists():
        return "result.json written"
    if any(folder.glob(".result.json.*")):
        return "result.json being written"
    if before < steps and last_step(folder) <= before:
        return "no new step yet"
    if any((folder / "checkpoints").glob("*tmp*")):
        return "a checkpoint being written"
    return "after the last step" if last_step(folder) == steps else "between checkpoints"


def start(folder: pathlib.Path, steps: int) -> subprocess.Popen:
    with (folder.parent / f"{folder.name}.log").open("a") as log:
        command = runs.command(folder, steps=steps, **KEYS)
        return subprocess.Popen(command, env=runs.environment(), stdout=log, stderr=log)


def kill(folder: pathlib.Path, steps: int, draw: random.Random, span: float, at_end: bool) -> dict:
    """Starts the run, kills it at a random moment within `span` CPU seconds, and returns the state it left."""
    before, process = last_step(folder), start(folder, steps)
    began = 0.0
    if at_end and wait(process, lambda: last_step(folder) == steps):
        began = cpu_seconds(process)
    moment = began + draw.uniform(0, span)
    wait(process, lambda: cpu_seconds(process) >= moment)
    process.send_signal(signal.SIGKILL)
    code = process.wait()
    return {
        "cpu_seconds": round(moment, 3),
        "killed": code == -signal.SIGKILL,
        "step": last_step(folder),
        "left": left(folder, steps, before),
    }


def parameters(folder: pathlib.Path) -> list[np.ndarray]:
    """Arrays of the last checkpoint: weights, averaged weights and optimiser state."""
    from tests.runs.test_resume import final_parameters

    return final_parameters(folder)


def study(parent: pathlib.Path, steps: int, at_any: int, at_end: int, seed: int) -> dict:
    """Trains a reference run, then one that is killed `at_any` + `at_end` times."""
    draw, whole, killed = random.Random(seed), parent / "whole", parent / "killed"
    start(parent / "compiled", KEYS["train__log_every"]).wait()  # or the first run alone would compile
    process, clock = start(whole, steps), []
    for condition in (lambda: last_step(whole) > 0, lambda: last_step(whole) == steps, (whole / "result.json").exists):
        assert wait(process, condition), f"the undisturbed run ended with {process.returncode}; see {parent}"
        clock.append(cpu_seconds(process))
    process.wait()
    first, last, ended = clock
    kills = []
    for number in range(at_any + at_end):
        ending = number >= at_any
        kills.append(kill(killed, steps, draw, ended - last if ending else 1.5 * first, ending))
        print(number + 1, kills[-1], flush=True)
    code = start(killed, steps).wait()
    pairs = list(zip(parameters(whole), parameters(killed), strict=True))
    lines = [[json.loads(line) for line in (one / "metrics.jsonl").open()] for one in (whole, killed)]
    losses = [{line["step"]: line["loss"] for line in ones if "loss" in line} for ones in lines]
    same_losses = all(losses[1].get(step) == loss for step, loss in losses[0].items())
    results = [json.loads((one / "result.json").read_text()) for one in (whole, killed)]
    return {
        "steps": steps,
        "kills": sum(one["killed"] for one in kills),
        "left": Counter(one["left"] for one in kills),
        "exit_code": code,
        "arrays": len(pairs),
        "arrays_equal": sum(np.array_equal(a, b) for a, b in pairs),
        "losses": len(losses[0]),
        "losses_equal": same_losses,
        "result_equal": results[0]["loss"] == results[1]["loss"],
        "cpu_seconds_to_the_first_step": round(first, 2),
        "median_cpu_seconds_to_a_kill": statistics.median(one["cpu_seconds"] for one in kills),
        "every_kill": kills,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--at-any", type=int, default=42)
    parser.add_argument("--at-end", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    parent = pathlib.Path(tempfile.mkdtemp())  # kept, with both runs and their output
    found = study(parent, options.steps, options.at_any, options.at_end, options.seed)
    versions = {"python": platform.python_version(), "jax": jax.__version__}
    found = {
        "command": f"python {pathlib.Path(sys.argv[0]).name} {' '.join(sys.argv[1:])}".strip(),
        **versions,
        **found,
    }
    write_whole(ROOT / "benchmarks" / "results" / "kill_fifty.json", json.dumps(found, indent=1) + "\n")
    print(json.dumps({key: value for key, value in found.items() if key != "every_kill"}, indent=1))


if __name__ == "__main__":
    main()
