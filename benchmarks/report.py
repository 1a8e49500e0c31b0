"""Time and size of a report of 500 runs: five objectives, four budgets, five sizes, five seeds.

    python benchmarks/report.py

Three turns, each a process that imports, fits, draws every figure as HTML, PNG and SVG, and writes the page. Every run
has a learning curve of 399 lines. Writes benchmarks/results/report.json and report.md.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = pathlib.Path(__file__).resolve().parent / "results"
TURNS = 3
OBJECTIVES = {"ar": 1.0, "any_order": 4.0, "masked": 4.0, "gidd": 5.0, "sedd": 6.0}  # compute for the loss of ar


def synthetic() -> list:
    """500 results around known laws."""
    sys.path.insert(0, str(ROOT))
    from tests.synthetic import sweep

    return [
        run._replace(seed=seed, run_id=f"{run.run_id}-seed{seed}")
        for index, (name, scale) in enumerate(OBJECTIVES.items())
        for seed in range(5)
        for run in sweep(
            name, scale, (1e10, 3e10, 1e11, 3e11), "exact" if name == "ar" else "upper", seed=9 * index + seed
        )
    ]


def turn() -> dict[str, float]:
    """Wall seconds, CPU seconds (with children), and megabytes of the page."""
    with tempfile.TemporaryDirectory() as folder:
        results = synthetic()
        from tests.synthetic import write_runs

        runs = write_runs(pathlib.Path(folder) / "runs", results)
        clock, cpu = time.perf_counter(), sum(os.times()[:4])
        from mdlm_jax.report.page import write_report

        page = write_report(results, pathlib.Path(folder) / "report", "500 runs", runs=runs)
        assert len(results) == 500
        return {
            "seconds": time.perf_counter() - clock,
            "cpu_seconds": sum(os.times()[:4]) - cpu,
            "megabytes": page.stat().st_size / 1e6,
        }


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from mdlm_jax.bench.suite import machine
    from mdlm_jax.files import write_whole

    turns = []
    for _ in range(TURNS):
        done = subprocess.run([sys.executable, __file__, "turn"], capture_output=True, text=True, check=True)
        turns.append(json.loads(done.stdout.splitlines()[-1]))
    lines = ["| 500 runs, turn | seconds | of CPU | page, MB |", "|---|---|---|---|"]
    for index, one in enumerate(turns, 1):
        lines.append(f"| {index} | {one['seconds']:.1f} | {one['cpu_seconds']:.1f} | {one['megabytes']:.2f} |")
    write_whole(RESULTS / "report.md", "\n".join(lines) + "\n")
    result = {"command": "python benchmarks/report.py", "machine": machine(), "turns": turns}
    write_whole(RESULTS / "report.json", json.dumps(result, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    print(json.dumps(turn())) if "turn" in sys.argv else main()
