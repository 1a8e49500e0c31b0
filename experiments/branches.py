"""Do half-price sweeps give the same laws? Branches of trunks against runs from scratch with seeds of their own.

    python experiments/branches.py [FOLDER]

AR and masked diffusion on bytes of the Python standard library, four sizes, six budgets over a decade. Branches share
the seed and the steps of their trunk; they equal the same runs from scratch bit by bit (tests/sweeps/test_branches.py).
So the runs from scratch here have other weights, noise and order of data, each its own; they have every second budget.
Writes the results of both sweeps and what was compared to experiments/results/branches/, and docs/images/branches.png.
Finished runs are not repeated; `mdlm-jax sweep run experiments/branches.py` trains the branches alone.
"""

import json
import pathlib
import sys

import altair as alt
from ml_collections import ConfigDict

root = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(root))

from mdlm_jax.configs import quickstart  # noqa: E402

TITLE = "AR and masked diffusion, as branches of trunks with a constant learning rate"
BRANCH = True

SIZES = ("0.53k", "2k", "4.7k", "8k")
FACTORS = tuple(10 ** (power / 5) for power in range(6))
# Smallest budget in exact FLOPs; learning rate for all sizes and budgets. Tried with 4,668 parameters at 6e9 (ar) and
# 3.2e10 FLOPs (masked): 0.5, 1, 2 and 4e-2 (ar), and 1, 2, 4, 8 and 16e-3 (masked).
SMALLEST = {"ar": 2e9, "masked": 6e9}
RATES = {"ar": 1.5e-2, "masked": 4e-3}
RESULTS = root / "experiments" / "results" / "branches"
FIGURE = root / "docs" / "images" / "branches.png"
SWEEPS = ("branches", "from scratch")


def grid() -> list[ConfigDict]:
    configs = []
    for objective, smallest in SMALLEST.items():
        for size in SIZES:
            for factor in FACTORS:
                config = quickstart.get_config()
                config.objective.name, config.model.size = objective, size
                config.budget = float(f"{smallest * factor:.3g}")
                config.optim.lr, config.optim.decay, config.optim.wsd_form = RATES[objective], "wsd", "minus_sqrt"
                config.optim.final, config.optim.warmup_share = 0.0, 0.0
                config.eval.sequences = config.eval.batch_size = 256
                config.eval.draws = 16
                configs.append(config)
    return configs


def from_scratch() -> list[ConfigDict]:
    """The runs of every second budget, each with a seed and an order of the data of its own."""
    configs = [config for number, config in enumerate(grid()) if number % len(FACTORS) % 2 == 0]
    for number, config in enumerate(configs, 1):
        config.seed = config.data.seed = number
    return configs


def trained(folder: pathlib.Path) -> dict:
    """Name of the sweep -> its results."""
    from mdlm_jax.report.stored import write_stored
    from mdlm_jax.sweeps import launchers, sweep
    from mdlm_jax.sweeps.experiment import load_experiment

    branching, found = load_experiment(__file__), {}
    for name, experiment in (
        (SWEEPS[0], branching),
        (SWEEPS[1], branching._replace(configs=from_scratch(), branch=False)),
    ):
        place = name.replace(" ", "_")
        sweep.run(experiment, folder / place, launchers.local(1))
        results, problems = sweep.collect(experiment, folder / place)
        if problems:
            raise SystemExit("\n".join(problems))
        found[name] = [result._replace(objective=result.objective.partition("-")[0]) for result in results]
        write_stored(RESULTS / f"{place}.json", found[name])
    return found


def compared(found: dict) -> dict:
    """The laws of both sweeps with their intervals, and what the sweeps cost."""
    from mdlm_jax.laws import Refusal
    from mdlm_jax.report.analysis import analyse
    from mdlm_jax.report.shared_cost import shared_cost

    cost = shared_cost(found[SWEEPS[0]], "exact")
    kept = {
        "command": "python experiments/branches.py",
        "flops": {
            "branches": cost.spent,
            "the same runs from scratch": cost.alone,
            "ratio": cost.spent / cost.alone,
            "the runs from scratch that were trained": sum(run.flops["exact"] for run in found[SWEEPS[1]]),
        },
        "laws": [],
        "minima": [],
    }
    for name, runs in found.items():
        for objective, best in analyse(runs).optima.items():
            if isinstance(best, Refusal):
                raise SystemExit(f"{name}, {objective}: {best.reason}")
            sample = best.sample
            for law in ("loss", "parameters", "tokens"):
                ends = _ends(sample if isinstance(sample, Refusal) else getattr(sample, f"{law}_exponent"))
                value = float(getattr(best, f"{law}_law").exponent)
                kept["laws"].append(
                    {"sweep": name, "objective": objective, "law": f"{law} exponent", "value": value} | ends
                )
            for number, budget in enumerate(best.budgets):
                ends = _ends(sample if isinstance(sample, Refusal) else sample.loss[:, number])
                minimum = {"parameters": float(best.parameters[number]), "loss": float(best.loss[number])}
                kept["minima"].append({"sweep": name, "objective": objective, "budget": float(budget)} | minimum | ends)
    return kept | {"differences": [_difference(found, objective) for objective in SMALLEST]}


def _ends(sample) -> dict:
    """The 95% interval of bootstrap replicates, or why there is none."""
    from mdlm_jax.laws import Refusal, interval

    if isinstance(sample, Refusal):
        return {"low": None, "high": None, "refused": sample.reason}
    low, high = interval(sample)
    return {"low": float(low), "high": float(high)}


def _difference(found: dict, objective: str) -> dict:
    """The mean over sizes and budgets of a branch's loss minus that from scratch, with Student's interval."""
    import numpy as np
    from scipy.stats import ttest_1samp

    one, other = (
        {(run.size, run.budget): run.loss for run in found[name] if run.objective == objective} for name in SWEEPS
    )
    values = np.array([one[cell] - loss for cell, loss in other.items()])
    low, high = ttest_1samp(values, 0.0).confidence_interval(0.95)
    return {
        "objective": objective,
        "cells": len(values),
        "mean": float(values.mean()),
        "low": float(low),
        "high": float(high),
    }


def pairs(kept: dict) -> list[tuple[dict, dict]]:
    """Each law of the branches with that of the runs from scratch."""
    one, other = ([law for law in kept["laws"] if law["sweep"] == name] for name in SWEEPS)
    same = lambda a, b: (a["objective"], a["law"]) == (b["objective"], b["law"])  # noqa: E731
    return [(a, b) for a in one for b in other if same(a, b)]


def rows(kept: dict) -> list[str]:
    """A table of `pairs`, with 95% intervals."""

    def shown(law: dict) -> str:
        ends = "no interval" if law["low"] is None else f"[{law['low']:.3f}, {law['high']:.3f}]"
        return f"{law['value']:.3f} {ends}"

    return [f"| {one['objective']} | {one['law']} | {shown(one)} | {shown(other)} |" for one, other in pairs(kept)]


def figure(kept: dict) -> dict:
    """Losses of the minima against compute, a panel for each objective."""
    from mdlm_jax.report.figures import charts
    from mdlm_jax.style import PALETTE

    panels = []
    for objective in SMALLEST:
        points = [
            {key: value for key, value in point.items() if key != "objective"}
            # side by side
            | {"drawn": point["budget"] * (0.985 if point["sweep"] == SWEEPS[0] else 1.015)}
            for point in kept["minima"]
            if point["objective"] == objective
        ]
        last = objective == list(SMALLEST)[-1]
        color = alt.Color(
            "sweep:N",
            scale=alt.Scale(domain=list(SWEEPS), range=PALETTE[:2]),
            title="",
            legend=alt.Legend() if last else None,
        )
        x = charts.x("drawn", "training FLOPs (counted exactly)", [point["drawn"] for point in points], pixels=380)
        ends = [point[key] for point in points for key in ("low", "high", "loss") if point[key] is not None]
        title = "loss of the best size (nats per byte)"
        y, low = (charts.y(field, title, ends) for field in ("loss", "low"))
        base = alt.Chart(charts.data(points)).encode(x=x, color=color)
        bars = base.transform_filter("datum.low !== null").mark_rule(strokeWidth=2).encode(y=low, y2="high:Q")
        dots = base.mark_point(filled=True, size=60, opacity=1).encode(y=y)
        panels.append(charts.layered([bars, dots], width=380, height=260, title=objective))
    return charts.panels(panels, "Lowest loss at each budget", "95% intervals where the bootstrap gives one")


def main(folder: pathlib.Path) -> None:
    from mdlm_jax.files import write_whole
    from mdlm_jax.report.figures import render

    kept = compared(trained(folder))
    write_whole(RESULTS / "compared.json", json.dumps(kept, indent=1) + "\n")
    _, png = render.files(render.specification(figure(kept)))
    FIGURE.write_bytes(png)
    print(kept["flops"], *kept["differences"], sep="\n")
    print("\n".join(rows(kept)))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "runs/branches"))
