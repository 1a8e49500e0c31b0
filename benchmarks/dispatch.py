"""What the host adds to a step of a small model: the training loop against its train step alone.

    taskset -c 0 python benchmarks/dispatch.py [CHECKOUT]

Runs of the quickstart's shapes (`configs/quickstart.py`), each in a process of its own: with several steps a dispatch,
as always; with one step a dispatch; and, if given, with the loop of another checkout. A round is one of each, and
ratios are medians over rounds. The floor is the same compiled steps without the loop: 100 in one dispatch, data on the
device. Seconds of a step are the median over log lines of 100 steps, without the first two. Writes
results/dispatch.json and dispatch.md.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
CASES = {"ar": ("0.53k", "4.7k", "33k", "131k"), "masked": ("0.53k", "4.7k", "33k", "131k")}
STEPS, EVERY, ROUNDS = 1001, 100, 3


def config_of(objective: str, size: str):
    sys.path.insert(0, os.getcwd())
    if pathlib.Path("mdlm_jax/configs").is_dir():
        from mdlm_jax.configs import quickstart
    else:  # an older checkout
        from configs import quickstart
    config = quickstart.get_config()
    config.objective.name, config.model.size = objective, size
    config.budget, config.steps, config.train.log_every = 0.0, STEPS, EVERY
    config.eval.sequences, config.eval.draws = 16, 2
    return config


def loop(objective: str, size: str, single: bool) -> float:
    """Seconds of a step in the loop of the checkout that is the current folder."""
    config = config_of(objective, size)
    try:
        from mdlm_jax.runs.loop import train
    except ModuleNotFoundError:
        from mdlm_jax.training.loop import train
    if single:
        from mdlm_jax.runs import dispatches

        dispatches.SECONDS = 0.0
    with tempfile.TemporaryDirectory() as folder:
        train(config, pathlib.Path(folder) / "run")
        lines = map(json.loads, (pathlib.Path(folder) / "run" / "metrics.jsonl").read_text().splitlines())
        rates = [line["tokens_per_second"] for line in lines if "tokens_per_second" in line and line["step"] < STEPS]
    return config.train.batch_size * config.data.sequence_length / statistics.median(rates[2:])


def alone(objective: str, size: str) -> float:
    """Seconds of a step without the loop."""
    from mdlm_jax.build import build
    from mdlm_jax.training.dispatch import stacked
    from mdlm_jax.training.sharding import RUNNERS
    from mdlm_jax.training.step import make_train_step

    built = build(config_of(objective, size))
    make_runner, _ = RUNNERS["jit"]
    step = make_train_step(built.model, built.objective, built.optimizer, built.options)
    runner = make_runner(step, built.mesh)
    state = runner.init(built.make_state, *built.initial)
    batches = runner.place(stacked([built.data.batch(step) for step in range(EVERY)]))
    seconds = []
    for _ in range(STEPS // EVERY):
        start = time.perf_counter()
        state, metrics = runner.steps(state, batches, EVERY)
        metrics["loss"].block_until_ready()
        seconds.append((time.perf_counter() - start) / EVERY)
    return statistics.median(seconds[2:])


def measured(folder: pathlib.Path, cache: str, *arguments: str) -> float:
    """What a process of this file prints that runs the code of a checkout."""
    environment = os.environ | {"PYTHONPATH": str(folder), "JAX_COMPILATION_CACHE_DIR": f"{cache}/{folder.name}"}
    command = [sys.executable, __file__, "one", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.splitlines()[-1])


def table(rows: list[dict]) -> str:
    names = [name for name in ("other", "single", "several", "floor") if name in rows[0]]
    heads = {"other": "other checkout", "single": "one a dispatch", "several": "several", "floor": "floor"}
    lines = ["| objective | size | " + " | ".join(f"{heads[name]}, ms" for name in names)]
    ratios = [name for name in ("other", "single") if name in names]
    lines[0] += "".join(f" | {heads[name]} / several" for name in ratios) + " | several / floor |"
    lines.append("|---" * (lines[0].count("|") - 1) + "|")
    for row in rows:
        cells = [row["objective"], row["size"], *(f"{1e3 * statistics.median(row[name]):.2f}" for name in names)]
        cells += [f"{ratio(row, name, 'several'):.2f}" for name in ratios] + [f"{ratio(row, 'several', 'floor'):.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def ratio(row: dict, one: str, other: str) -> float:
    return statistics.median(a / b for a, b in zip(row[one], row[other], strict=True))


def main() -> None:
    others = [pathlib.Path(word).resolve() for word in sys.argv[1:2]]
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for objective, sizes in CASES.items():
            for size in sizes:
                row = {"objective": objective, "size": size}
                for _ in range(ROUNDS):
                    for name in (*("other" for _ in others), "single", "several", "floor"):
                        folder = others[0] if name == "other" else ROOT
                        row.setdefault(name, []).append(measured(folder, cache, name, objective, size))
                rows.append(row)
                print(table([row]).splitlines()[-1], flush=True)
    save(rows)


def save(rows: list[dict]) -> None:
    from mdlm_jax.bench.suite import machine
    from mdlm_jax.files import write_whole

    found = {"command": "taskset -c 0 python benchmarks/dispatch.py", "machine": machine(), "seconds_of_a_step": rows}
    write_whole(RESULTS / "dispatch.json", json.dumps(found, indent=1) + "\n")
    write_whole(RESULTS / "dispatch.md", table(rows))


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        which, *case = sys.argv[2:]
        print(alone(*case) if which == "floor" else loop(*case, single=which == "single"))
    else:
        main()
