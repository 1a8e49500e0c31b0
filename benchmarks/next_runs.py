"""Runs chosen by `propose` against a uniform grid of the same FLOPs: the interval of the multiplier that each gives.

    python benchmarks/next_runs.py --sweeps 200

Each simulated sweep starts with a pilot of four budgets by four sizes of two objectives, drawn around known surfaces
(those fitted to experiments/results/isoflop_small, for `ar` and `masked`). Then one design trains a grid of five
budgets by five sizes of each objective, and the other spends the same FLOPs on the runs of this grid that `propose`
picks from the fit to the pilot alone. Both refit all of their runs. Writes benchmarks/results/next_runs.json.
"""

import argparse
import json
import pathlib
import time

import numpy as np
from scipy.optimize import least_squares

from mdlm_jax.files import write_whole
from mdlm_jax.laws import CHINCHILLA, Chinchilla, Fit, Refusal, Runs, allocation
from mdlm_jax.laws.design import Candidates, SurfaceMultiplier, log_compute, propose, surface_multiplier

TRUTHS = (Chinchilla(1.584, 7.036, 119.6, 0.3722, 0.472), Chinchilla(1.778, 5.372, 488.4, 0.291, 0.4939))
BUDGETS = ((1e9, 1e11), (3e10, 3e12))  # 6 N D of the smallest and the largest runs, by objective
NOISE = 0.01  # of ln loss between runs
RESULT = pathlib.Path(__file__).resolve().parent / "results" / "next_runs.json"


def grid(which: int, budgets: int, sizes: int, spread: float) -> Runs:
    """Sizes around the true optimum of each budget, from 1 / spread to spread times it."""
    best = allocation(TRUTHS[which], "six_nonembedding")
    compute = np.repeat(np.geomspace(*BUDGETS[which], budgets), sizes)
    parameters = best.parameters_coefficient * compute**best.parameters_exponent
    parameters *= np.tile(np.geomspace(1 / spread, spread, sizes), budgets)
    return Runs(parameters, compute / 6 / parameters)


def log_loss(coordinates: np.ndarray, runs: Runs) -> np.ndarray:
    log_e, log_a, log_b, alpha, beta = coordinates
    terms = [log_a - alpha * np.log(runs.parameters), log_b - beta * np.log(runs.tokens)]
    return np.logaddexp.reduce([np.full_like(terms[0], log_e), *terms])


def fitted(which: int, runs: Runs, noisy: np.ndarray) -> Fit:
    """Least squares of ln loss, from the truth, which saves the search over starts."""
    truth = coordinates_of(which)
    found = least_squares(lambda at: log_loss(at, runs) - noisy, truth, x_scale=np.abs(truth), max_nfev=200).x
    return Fit(CHINCHILLA, "squares", runs, np.exp(noisy), np.ones(5, bool), found, None, 0.0, 0.0)


def coordinates_of(which: int) -> np.ndarray:
    return np.where(CHINCHILLA.logarithmic, np.log(TRUTHS[which]), TRUTHS[which])


def joined(first: Runs, second: Runs) -> Runs:
    return Runs(*(np.concatenate(columns) for columns in zip(first, second, strict=True)))


def sweep(seed: int) -> dict[str, SurfaceMultiplier] | None:
    """The multipliers that the two designs find; None if the pilot supports none."""
    generator = np.random.default_rng(seed)
    drawn = lambda which, runs: (  # noqa: E731
        log_loss(coordinates_of(which), runs) + NOISE * generator.standard_normal(len(runs.tokens))
    )
    pilots = [grid(which, 4, 4, 3.0) for which in (0, 1)]
    noisy = [drawn(which, runs) for which, runs in enumerate(pilots)]
    fits = [fitted(which, runs, seen) for which, (runs, seen) in enumerate(zip(pilots, noisy, strict=True))]
    uniform = [grid(which, 5, 5, 5.0) for which in (0, 1)]
    everything = joined(*uniform)
    cost = 6 * everything.parameters * everything.tokens
    candidates = Candidates(np.repeat((0, 1), 25), *everything, cost)
    proposal = propose(*fits, candidates, float(cost.sum()))
    if isinstance(proposal, Refusal):
        return None
    found = {}
    for name, chosen in (("uniform", np.arange(50)), ("next", proposal.chosen)):
        refits = []
        for which in (0, 1):
            mine = chosen[candidates.objective[chosen] == which]
            further = Runs(everything.parameters[mine], everything.tokens[mine])
            runs, seen = joined(pilots[which], further), np.append(noisy[which], drawn(which, further))
            refits.append(fitted(which, runs, seen))
        multiplier = surface_multiplier(*refits)
        if isinstance(multiplier, Refusal):
            return None
        found[name] = multiplier
    return found


def summary(sweeps: list[dict[str, SurfaceMultiplier]]) -> dict:
    """Widths of the intervals of ln multiplier, errors, and coverage of the truth at the losses of each sweep."""
    width = lambda one: float(np.log(one.high / one.low))  # noqa: E731
    ratios = np.array([width(one["next"]) / width(one["uniform"]) for one in sweeps])
    told = {}
    for name in ("uniform", "next"):
        errors, covered = [], []
        for one in sweeps:
            loss = np.linspace(*one[name].losses, 9)
            truth = np.subtract(*(log_compute(coordinates_of(which), loss).mean() for which in (1, 0)))
            errors.append(np.log(one[name].mean) - truth)
            covered.append(np.log(one[name].low) <= truth <= np.log(one[name].high))
        widths = [width(one[name]) for one in sweeps]
        rmse = float(np.sqrt(np.nanmean(np.square(errors))))
        told[name] = {"mean_width": float(np.mean(widths)), "rmse": rmse, "coverage": float(np.mean(covered))}
    error = float(ratios.std(ddof=1) / np.sqrt(len(ratios)))
    return {"mean_ratio_of_widths": float(ratios.mean()), "standard_error": error, **told}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sweeps", type=int, default=200)
    options = parser.parse_args()
    started = time.monotonic()
    found = [sweep(seed) for seed in range(options.sweeps)]
    kept = [one for one in found if one is not None]
    result = {
        "command": f"python benchmarks/next_runs.py --sweeps {options.sweeps}",
        "sweeps": options.sweeps,
        "refused": options.sweeps - len(kept),
        "noise": NOISE,
        **summary(kept),
        "seconds": round(time.monotonic() - started, 1),
    }
    write_whole(RESULT, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
