"""`unified_small` of mdlm_jax.experiments, by the path that commands use; as a script, the nats of each task apart.

    python experiments/unified_small.py runs/unified_small

Evaluates every task of every run of the sweep, in a few seconds each, and fits the laws of each task by itself. Writes
experiments/results/unified_small/tasks.json.
"""

import json
import pathlib
import sys

root = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(root))

from mdlm_jax.experiments.unified_small import TITLE, grid  # noqa: E402, F401

TASKS = ("joint", "text", "image", "text_given_image", "image_given_text")


def evaluated(folder: pathlib.Path) -> dict[str, list[float]]:
    """(nats per token, its standard error, the part of it from noise) of each task of a run."""
    from mdlm_jax.runs.evaluate import evaluate_run

    tasks = evaluate_run(folder, draws=None, sequences=None)["tasks"]
    columns = ("standard_error", "monte_carlo_error")
    return {
        name: [one["nats_per_token"], *(one[column] / one["tokens"] for column in columns)]
        for name, one in tasks.items()
    }


def multipliers(results: list, nats: dict[str, dict[str, list[float]]]) -> dict[str, dict | str]:
    """The compute of `unified` over that of AR for equal nats of each task; why not, where there is none."""
    from mdlm_jax.laws import Refusal
    from mdlm_jax.report.analysis import analyse

    found: dict[str, dict | str] = {}
    for task in TASKS:
        fields = ("loss", "loss_standard_error", "loss_monte_carlo_error")
        of_task = [run._replace(**dict(zip(fields, nats[run.run_id][task], strict=True))) for run in results]
        (compared,) = analyse(of_task).comparisons
        multiplier = compared.multiplier
        found[task] = (
            multiplier.reason
            if isinstance(multiplier, Refusal)
            else {"mean": multiplier.mean, "low": multiplier.mean_low, "high": multiplier.mean_high}
        )
    return found


def main(folder: pathlib.Path) -> None:
    from mdlm_jax.files import write_whole
    from mdlm_jax.report.stored import find_stored

    results, problems, runs = find_stored(folder)
    for problem in problems:
        print(problem, file=sys.stderr)
    nats = {name: evaluated(place) for name, place in runs.items()}
    found = {"multipliers": multipliers(results, nats), "nats_per_token": nats}
    place = root / "experiments" / "results" / "unified_small" / "tasks.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    write_whole(place, json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["multipliers"], indent=1))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
