"""Memory that the compiler reserves and time of a step, by `train.remat`.

python benchmarks/remat.py    # one CPU core; steps of the three settings alternate in one process
"""

import json
import pathlib
import statistics
import sys
import time

import jax

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mdlm_jax.build import build  # noqa: E402
from mdlm_jax.configs import base  # noqa: E402
from mdlm_jax.files import write_whole  # noqa: E402
from mdlm_jax.training.dispatch import stacked  # noqa: E402
from mdlm_jax.training.sharding import RUNNERS  # noqa: E402
from mdlm_jax.training.step import make_train_step  # noqa: E402

POLICIES = ("none", "dots", "full")
TURNS = 5
SETTING = {"size": "2.4M", "V": 2048, "L": 256, "B": 8, "attention": "einsum"}


def compiled_step(remat: str):
    """(program, state, batch) of one train step in float32, with scanned layers."""
    config = base.get_config()
    config.data.source, config.data.path = "markov", "vocab=8,concentration=0.3"
    config.data.sequence_length, config.eval.sequences = SETTING["L"], 1
    config.model.size, config.model.vocab_size = SETTING["size"], SETTING["V"]
    config.train.batch_size, config.train.attention = SETTING["B"], SETTING["attention"]
    config.train.scan_layers, config.train.remat = True, remat
    built = build(config)
    make_runner, axis_name = RUNNERS["jit"]
    step = make_train_step(built.model, built.objective, built.optimizer, built.options, axis_name)
    runner = make_runner(step, built.mesh)
    state, batch = runner.init(built.make_state, *built.initial), stacked([built.data.batch(0)])
    return runner.steps.lower(state, batch, 1).compile(), state, batch


def main() -> None:
    steps = {remat: compiled_step(remat) for remat in POLICIES}
    reserved = {remat: steps[remat][0].memory_analysis().temp_size_in_bytes for remat in POLICIES}
    seconds = {remat: [] for remat in POLICIES}
    for turn in range(TURNS + 1):
        for remat, (program, state, batch) in steps.items():
            start = time.process_time()
            state, metrics = program(state, batch, 1)
            metrics["loss"].block_until_ready()
            if turn:  # the first one warms up
                seconds[remat].append(time.process_time() - start)
            steps[remat] = program, state, batch
    found = {
        remat: {
            "temporary_bytes": reserved[remat],
            "cpu_seconds": seconds[remat],
            "time_over_none": statistics.median(a / b for a, b in zip(seconds[remat], seconds["none"], strict=True)),
        }
        for remat in POLICIES
    }
    lines = [
        "| remat | temporary memory, MB | relative to none | CPU time of a step relative to none |",
        "|---|---|---|---|",
    ]
    for remat, one in found.items():
        share = one["temporary_bytes"] / reserved["none"]
        lines.append(f"| {remat} | {one['temporary_bytes'] / 1e6:,.0f} | {share:.2f} | {one['time_over_none']:.2f} |")
    folder = ROOT / "benchmarks" / "results"
    text = json.dumps({**SETTING, "jax": jax.__version__, "turns": TURNS, "found": found}, indent=1)
    write_whole(folder / "remat.json", text + "\n")
    write_whole(folder / "remat.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
