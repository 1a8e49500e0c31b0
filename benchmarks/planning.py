"""Time to plan 1,000 runs over SMDM's 30 sizes and five budgets, each turn in its own process.

python benchmarks/planning.py
"""

import itertools
import json
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
# objectives, learning rates and seeds; each objective is checked once, which compiles a little
GRIDS = {
    "2 objectives": (("ar", "masked"), (2e-4, 4e-4), (0, 1)),
    "7 objectives": (("ar", "any_order", "any_order_causal", "masked", "d3pm", "sedd", "gidd"), (4e-4,), (0,)),
}
BUDGETS = (6e18, 1e19, 3e19, 6e19, 1e20)
TURNS = 5


def turn(name: str) -> dict[str, float]:
    """Seconds of planning and of the table with hours, price and memory, without imports and the grid itself."""
    sys.path.insert(0, str(ROOT))
    from mdlm_jax.configs import smdm
    from mdlm_jax.costs.prices import parse_hardware
    from mdlm_jax.models.ladder import SMDM
    from mdlm_jax.sweeps.plan import plan_runs, plan_table

    configs = []
    objectives, rates, seeds = GRIDS[name]
    for objective, budget, size, rate, seed in itertools.product(objectives, BUDGETS, SMDM, rates, seeds):
        config = smdm.get_config()
        config.objective.epsilon_convention, config.objective.independent_times = "none", False
        config.objective.name, config.budget, config.model.size = objective, budget, size
        config.optim.lr, config.seed = rate, seed
        configs.append(config)
    wall, cpu = time.perf_counter(), time.process_time()
    planned = plan_runs(configs[:1000])
    plan_table(planned, parse_hardware("h200:8"))
    assert len(planned) == 1000
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from mdlm_jax.files import write_whole

    lines = ["| 1,000 runs | seconds, median | minimum | maximum | CPU seconds, median |", "|---|---|---|---|---|"]
    turns = {name: [] for name in GRIDS}
    for name, _ in itertools.product(GRIDS, range(TURNS)):
        done = subprocess.run([sys.executable, __file__, name], capture_output=True, text=True, check=True)
        turns[name].append(json.loads(done.stdout.splitlines()[-1]))
    for name, found in turns.items():
        wall, cpu = [one["wall"] for one in found], [one["cpu"] for one in found]
        spread = f"{statistics.median(wall):.2f} | {min(wall):.2f} | {max(wall):.2f}"
        lines.append(f"| {name} | {spread} | {statistics.median(cpu):.2f} |")
    folder = pathlib.Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    write_whole(folder / "planning.json", json.dumps(turns, indent=1) + "\n")
    write_whole(folder / "planning.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(turn(sys.argv[1])))
    else:
        main()
