"""Coverage of the intervals of a fitted law: simulated studies of a known surface.

    python benchmarks/fit_coverage.py --studies 300 --replicates 200

Each study is four budgets over two decades, five sizes a budget, two seeds a size, with normal noise on the loss,
around the surface of Besiroglu et al. 2024. Takes five minutes on one core; writes
experiments/results/fit_coverage.json.
"""

import argparse
import json
import pathlib
import time

import numpy as np

from mdlm_jax.files import write_whole
from mdlm_jax.laws import (
    CHINCHILLA,
    Chinchilla,
    Refusal,
    Runs,
    allocation,
    bootstrap,
    fit_law,
    interval,
    profile,
    row_resamples,
    seed_resamples,
)

TRUTH = Chinchilla(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)
BUDGETS = (1e19, 5e19, 2e20, 1e21)  # 6 N D
SIZES, SEEDS, NOISE = 5, 2, 0.005  # a budget; a size; nats per token
SHOWN = ("E", "alpha", "beta")
RESULT = pathlib.Path(__file__).resolve().parents[1] / "experiments" / "results" / "fit_coverage.json"


def design() -> tuple[Runs, np.ndarray, np.ndarray]:
    """Runs, their loss without noise, and their cells (the seeds of one size at one budget)."""
    best = allocation(TRUTH, "six_nonembedding")
    parameters = [
        best.parameters_coefficient * budget**best.parameters_exponent * np.geomspace(0.25, 4, SIZES)
        for budget in BUDGETS
    ]
    parameters = np.repeat(np.concatenate(parameters), SEEDS)
    tokens = np.repeat(BUDGETS, SIZES * SEEDS) / (6 * parameters)
    loss = TRUTH.E + TRUTH.A * parameters**-TRUTH.alpha + TRUTH.B * tokens**-TRUTH.beta
    return Runs(parameters, tokens), loss, np.repeat(np.arange(len(loss) // SEEDS), SEEDS)


def _shown(values: Chinchilla) -> dict[str, np.ndarray | float]:
    exponent = allocation(values, "six_nonembedding").parameters_exponent
    return {**{name: getattr(values, name) for name in SHOWN}, "parameters_exponent": exponent}


def study(runs: Runs, loss: np.ndarray, cells: np.ndarray, seed: int, replicates: int) -> dict[str, dict]:
    """Intervals by method and parameter; None where a fit was refused."""
    fits = {name: fit_law(CHINCHILLA, runs, loss, name) for name in ("huber_sum", "squares")}
    if any(isinstance(fitted, Refusal) for fitted in fits.values()):
        return {}
    rows, seeds = row_resamples(len(loss), replicates, seed), seed_resamples(cells, replicates, seed)
    drawn = {
        "row bootstrap, huber_sum": bootstrap(fits["huber_sum"], rows),
        "row bootstrap, squares": bootstrap(fits["squares"], rows),
        "seed bootstrap, squares": bootstrap(fits["squares"], seeds),
    }
    found = {
        method: {name: interval(values) for name, values in _shown(sample).items()} for method, sample in drawn.items()
    }
    profiles = {name: profile(fits["squares"], name).interval for name in SHOWN}
    found["profile, squares"] = {n: None if isinstance(i, Refusal) else i for n, i in profiles.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--replicates", type=int, default=200, help="of each bootstrap")
    options = parser.parse_args()
    started = time.monotonic()
    runs, clean, cells = design()
    truth, covered, answered = _shown(TRUTH), {}, {}
    for number in range(options.studies):
        loss = clean + NOISE * np.random.default_rng(number).standard_normal(len(clean))
        for method, intervals in study(runs, loss, cells, number, options.replicates).items():
            for name, bounds in intervals.items():
                if bounds is not None:
                    key = (method, name)
                    answered[key] = answered.get(key, 0) + 1
                    covered[key] = covered.get(key, 0) + bool(bounds[0] <= truth[name] <= bounds[1])
    methods = sorted({method for method, _ in answered})
    result = {
        "command": f"python benchmarks/fit_coverage.py --studies {options.studies} --replicates {options.replicates}",
        "design": {
            "truth": TRUTH._asdict(),
            "budgets": BUDGETS,
            "sizes": SIZES,
            "seeds": SEEDS,
            "noise_nats": NOISE,
            "runs": len(clean),
        },
        "nominal": 0.95,
        "standard_error": (0.95 * 0.05 / options.studies) ** 0.5,
        "coverage": {
            method: {name: covered[m, name] / answered[m, name] for m, name in answered if m == method}
            for method in methods
        },
        "answered": {
            method: {name: count for (m, name), count in answered.items() if m == method} for method in methods
        },
        "seconds": round(time.monotonic() - started, 1),
    }
    write_whole(RESULT, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["coverage"], indent=1))


if __name__ == "__main__":
    main()
