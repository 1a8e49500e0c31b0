"""Time of scaling-law fits: 4,000 resamples of 245 runs, and the fits that a report makes once per objective.

    python benchmarks/fits.py

The runs are drawn around the surface of Besiroglu et al. 2024, with the number and spread of the runs that they refit.
Seconds are those of a fresh process, with compilation listed separately; CPU seconds are those of all its threads.
Writes benchmarks/results/fits.json.
"""

import json
import pathlib
import time

import numpy as np

from mdlm_jax.bench.suite import machine
from mdlm_jax.files import write_whole
from mdlm_jax.laws import CHINCHILLA, Runs, bootstrap, fit_law, leave_one_budget_out, profile, row_resamples

RESULT = pathlib.Path(__file__).resolve().parent / "results" / "fits.json"
RUNS, REPLICATES, NOISE = 245, 4000, 0.01


def drawn_runs() -> tuple[Runs, np.ndarray]:
    generator = np.random.default_rng(0)
    parameters = np.exp(generator.uniform(np.log(6e7), np.log(1.6e10), RUNS))
    tokens = np.exp(generator.uniform(np.log(2e9), np.log(3e11), RUNS))
    loss = 1.8172 + 482.01 * parameters**-0.3478 + 2085.43 * tokens**-0.3658
    return Runs(parameters, tokens), loss * np.exp(NOISE * generator.standard_t(3, RUNS))


def timed(call):
    """The result of `call`, its wall seconds and its CPU seconds."""
    clock, cpu = time.perf_counter(), time.process_time()
    value = call()
    return value, {"seconds": time.perf_counter() - clock, "cpu_seconds": time.process_time() - cpu}


def main() -> None:
    runs, loss = drawn_runs()
    budgets = np.repeat(np.arange(7), RUNS // 7)
    measured = {}
    for estimator in ("huber_sum", "fitted_scale", "squares"):
        fitted, first = timed(lambda name=estimator: fit_law(CHINCHILLA, runs, loss, name))
        _, again = timed(lambda name=estimator: fit_law(CHINCHILLA, runs, loss, name))
        weights = row_resamples(RUNS, REPLICATES, seed=0)
        _, resampled = timed(lambda fitted=fitted, weights=weights: bootstrap(fitted, weights))
        _, held = timed(lambda fitted=fitted: leave_one_budget_out(fitted, budgets))
        rows = {"fit": first, "fit_again": again, f"bootstrap_{REPLICATES}": resampled, "leave_one_budget_out": held}
        if estimator != "huber_sum":
            _, rows["profile"] = timed(lambda fitted=fitted: profile(fitted, "alpha"))
        measured[estimator] = rows
        print(estimator, {name: round(row["seconds"], 2) for name, row in rows.items()}, flush=True)
    result = {"command": "python benchmarks/fits.py", "machine": machine(), "runs": RUNS, "measured": measured}
    write_whole(RESULT, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
