"""Checks an experiment's learning rates with a small grid around them, at one budget of each objective.

The experiment's own rule, which its file states, extrapolates them to larger budgets.
"""

import json
import math
import pathlib
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict
from rich.table import Table

from mdlm_jax.errors import UserError
from mdlm_jax.files import write_whole
from mdlm_jax.laws import MIN_SIZES, Minimum, isoflop_minimum, seed_deviation
from mdlm_jax.runs.finished import finished
from mdlm_jax.runs.result import Result
from mdlm_jax.sweeps import sweep
from mdlm_jax.sweeps.experiment import Experiment
from mdlm_jax.sweeps.names import size_name, variants


class Tuned(NamedTuple):
    """Losses by learning rate of one objective and size at one budget."""

    objective: str
    size: str
    parameters: int  # without embeddings
    budget: float
    learning_rates: list[float]
    losses: list[float]  # validation nats per token, mean over seeds
    best: float  # learning rate at the minimum of the parabola in log lr, or the best of the grid without one
    interior: bool  # whether the minimum lies inside the grid
    chosen: float  # the experiment's learning rate
    excess: float  # nats by which its loss is above the minimum
    excess_error: float  # its standard error; NaN with one seed
    noise: float  # standard deviation of the loss over seeds, pooled over the objective; NaN with one seed


def to_tune_at(configs: Sequence[ConfigDict]) -> list[ConfigDict]:
    """The configs of each variant's smallest budget or, without budgets, of its median number of steps.

    A rule extrapolates learning rates from the smallest budget. Runs that differ in the number of epochs over the same
    tokens share one learning rate.
    """
    named = list(zip(variants(configs), configs, strict=True))
    spent = defaultdict(set)
    for name, config in named:
        spent[name].add(config.budget or config.steps)
    chosen = {}
    for name, config in named:
        amounts = sorted(spent[name])
        chosen[name] = amounts[0] if config.budget else amounts[len(amounts) // 2]
    return [config for name, config in named if (config.budget or config.steps) == chosen[name]]


def tuning_grid(configs: Sequence[ConfigDict], factors: Sequence[float], seeds: int) -> list[ConfigDict]:
    """The runs of `to_tune_at`, with their learning rate times each factor and with each of `seeds` seeds."""
    first = min(config.seed for config in configs)
    grid = []
    for config in to_tune_at(configs):
        if config.seed != first:
            continue
        for factor in factors:
            for seed in range(first, first + seeds):
                copy = config.copy_and_resolve_references()
                copy.optim.lr = float(f"{config.optim.lr * factor:.6g}")  # exactly the value in the run's name
                copy.seed = seed
                grid.append(copy)
    return grid


def tuned(results: Sequence[Result], configs: Sequence[ConfigDict]) -> list[Tuned]:
    """Evaluates the learning rates of an experiment, by objective and size.

    Args:
        results: Results of `tuning_grid`. Their objective is a name of `variants`.
        configs: The runs of the experiment.
    """
    tried = to_tune_at(configs)
    chosen = {(name, size_name(c)): c.optim.lr for name, c in zip(variants(tried), tried, strict=True)}
    runs = defaultdict(lambda: defaultdict(list))  # losses over seeds, by curve and rate
    for run in results:
        if run.status == "done":
            runs[run.objective, run.size, run.parameters_non_embedding, run.budget][run.learning_rate].append(run.loss)
    found = []
    for (objective, size, parameters, budget), curve in runs.items():
        noise = seed_deviation(
            [losses for key, other in runs.items() if key[0] == objective for losses in other.values()]
        )
        rates = np.array(sorted(curve))
        losses = np.array([np.mean(curve[rate]) for rate in rates])
        errors = np.array([noise / len(curve[rate]) ** 0.5 for rate in rates])
        mine = chosen[objective, size]
        generator = np.random.default_rng(0)
        draws = errors * generator.standard_normal((500, len(rates)))
        replicates = [_excess(rates, losses + draw, mine) for draw in draws]
        minimum = isoflop_minimum(rates, losses)
        interior = isinstance(minimum, Minimum) and minimum.interior
        lowest = float(rates[losses.argmin()])
        best = minimum.parameters if isinstance(minimum, Minimum) and minimum.interior else lowest
        excess = _excess(rates, losses, mine)
        found.append(
            Tuned(
                *(objective, size, parameters, budget, rates.tolist(), losses.tolist(), best, interior, mine, excess),
                excess_error=float(np.std(replicates)),
                noise=noise,
            )
        )
    return found


def _excess(rates: Float[np.ndarray, "rates"], losses: Float[np.ndarray, "rates"], chosen: float) -> float:
    """Nats above the minimum at the chosen rate: of the parabola or, if it has none inside the grid, of the grid."""
    minimum = isoflop_minimum(rates, losses)
    if isinstance(minimum, Minimum) and minimum.interior:
        return 0.5 * minimum.curvature * math.log(chosen / minimum.parameters) ** 2
    return float(np.interp(math.log(chosen), np.log(rates), losses) - losses.min())


def tuned_table(found: Sequence[Tuned]) -> Table:
    """A table of the losses by learning rate, the optimum, and the excess loss of the chosen rate."""
    table = Table("objective", "size", "budget", "lr: loss", "optimum", "chosen", "nats lost", "noise", box=None)
    for curve in found:
        pairs = zip(curve.learning_rates, curve.losses, strict=True)
        table.add_row(
            curve.objective,
            curve.size,
            f"{curve.budget:.3g}",
            ", ".join(f"{rate:.3g}: {loss:.4f}" for rate, loss in pairs),
            f"{curve.best:.3g}" if curve.interior else f"{curve.best:.3g} or beyond",
            f"{curve.chosen:.3g}",
            f"{curve.excess:.4f} ± {curve.excess_error:.4f}",
            f"{curve.noise:.4f}",
        )
    return table


def write_tuned(found: Sequence[Tuned], path: pathlib.Path) -> None:
    """Writes the curves as JSON."""
    text = json.dumps([curve._asdict() for curve in found], indent=1)
    write_whole(path, text + "\n")


def tune(
    experiment: Experiment,
    folder: pathlib.Path,
    launcher: sweep.Launcher,
    factors: Sequence[float] = (0.5, 1.0, 2.0),
    seeds: int = 2,
) -> tuple[sweep.Summary, list[Tuned]]:
    """Runs the tuning grid and, when all runs are done, writes learning_rates.json into the folder.

    Args:
        experiment: The experiment whose learning rates are checked.
        folder: Folder of the grid's runs.
        launcher: Trains them.
        factors: Multiply each learning rate; at least three.
        seeds: Seeds of each learning rate; two or more give a standard error.

    Raises:
        UserError: As in `sweep.run`, and for invalid factors or seeds.
    """
    if len(set(factors)) < MIN_SIZES or min(factors) <= 0:
        raise UserError(f"factors {', '.join(map(str, factors))}; accepted: {MIN_SIZES} or more, all above 0")
    if seeds < 1:
        raise UserError(f"{seeds} seeds; accepted: 1 or more, 2 for a standard error")
    tuning = experiment._replace(configs=tuning_grid(experiment.configs, factors, seeds), labels=(), branch=False)
    summary = sweep.run(tuning, folder, launcher)
    results = []
    for name, variant in zip(tuning.run_ids, variants(tuning.configs), strict=True):
        if result := finished(folder / name):
            results.append(result._replace(objective=variant))
    found = tuned(results, experiment.configs)
    if not summary.failed and not summary.left:
        write_tuned(found, folder / "learning_rates.json")
    return summary, found
