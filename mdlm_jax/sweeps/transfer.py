"""Tunes the learning rate at one size, and shows whether the best rate stays where it was at larger ones."""

import pathlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict
from rich.table import Table

from mdlm_jax.build.plan import plan
from mdlm_jax.config import override
from mdlm_jax.costs.flops import num_parameters
from mdlm_jax.errors import UserError
from mdlm_jax.laws import BestRate, Shift, best_rate, shift
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.runs.finished import finished
from mdlm_jax.sweeps import sweep
from mdlm_jax.sweeps.experiment import Experiment

STAYS = 1.5  # factor within which the best rate counts as unmoved
FACTORS = tuple(2.0**power for power in range(-3, 4))  # of the config's rate


class SizeCurve(NamedTuple):
    """The losses of one size by learning rate."""

    size: str
    parameters: int  # without embeddings
    rates: list[float]
    losses: list[list[float]]  # of the seeds of each rate, nats per token; a run that failed has none
    best: BestRate
    moved: Shift  # from the base


def transfer_grid(config: ConfigDict, sizes: Sequence[str], seeds: int) -> list[ConfigDict]:
    """The runs of a base config and of larger sizes, with equal steps, at seven rates and from several seeds.

    Args:
        config: The base, of a named size. Its parametrization gets the shape of the base as its base shape.
        sizes: Names of the larger sizes, in any order.
        seeds: Seeds of each rate.

    Returns:
        The configs of the base, then those of the other sizes by their parameters without embeddings.

    Raises:
        UserError: A config cannot be planned, or a size is no larger one.
    """
    base = plan(config)
    keys = {"budget": 0.0, "steps": base.steps} | _base_shape(config, base.architecture)
    by_parameters, smallest = [], num_parameters(base.architecture).non_embedding
    for size in dict.fromkeys([config.model.size, *sizes]):
        sized = override(config, [f"--config.{key}={value}" for key, value in {"model.size": size, **keys}.items()])
        own, least = plan(sized).architecture, base.architecture
        parameters = num_parameters(own).non_embedding
        larger = own.width >= least.width and own.layers >= least.layers and parameters > smallest
        if size != config.model.size and not larger:
            raise UserError(f"--sizes={','.join(sizes)}: {size} is no larger network than {config.model.size}")
        by_parameters.append((parameters, sized))
    grid = []
    for _, sized in sorted(by_parameters, key=lambda pair: pair[0]):
        for factor in FACTORS:
            for seed in range(config.seed, config.seed + seeds):
                rate = float(f"{factor * config.optim.lr:.6g}")  # exactly the value in the run's name
                grid.append(override(sized, [f"--config.optim.lr={rate!r}", f"--config.seed={seed}"]))
    return grid


def _base_shape(config: ConfigDict, a: Architecture) -> dict[str, int]:
    """The keys that make a network the base of its parametrization."""
    keys = {"model.base_width": a.width, "model.base_head_width": a.head_width}
    if config.model.parametrization == "completep":
        keys["model.base_layers"] = a.layers
    return {} if config.model.parametrization == "standard" else keys


def run_transfer(
    config: ConfigDict, sizes: Sequence[str], seeds: int, folder: pathlib.Path, launcher: sweep.Launcher
) -> tuple[sweep.Summary, list[SizeCurve]]:
    """Trains the missing runs of `transfer_grid`; the curves of all sizes, the base first, once all runs have ended.

    Args:
        config: As in `transfer_grid`.
        sizes: As in `transfer_grid`.
        seeds: As in `transfer_grid`; two or more.
        folder: Of the runs.
        launcher: Trains them.

    Raises:
        UserError: As `transfer_grid` and `sweep.run`, or too few runs of a size are done.
    """
    experiment = Experiment(folder, "Learning rates by size", transfer_grid(config, sizes, seeds))
    summary = sweep.run(experiment, folder, launcher)
    return summary, [] if summary.left else _curves(experiment, folder)


def _curves(experiment: Experiment, folder: pathlib.Path) -> list[SizeCurve]:
    losses: dict[str, dict[float, list[float]]] = defaultdict(dict)
    parameters = {}
    for name, config in zip(experiment.run_ids, experiment.configs, strict=True):
        of_rate = losses[config.model.size].setdefault(config.optim.lr, [])
        result = finished(folder / name)
        if result is not None and result.status == "done" and result.loss is not None:
            of_rate.append(result.loss)
            parameters[config.model.size] = result.parameters_non_embedding
    curves: list[SizeCurve] = []
    for number, (size, by_rate) in enumerate(losses.items()):
        rates = sorted(by_rate)
        try:
            best = best_rate(rates, [by_rate[rate] for rate in rates], seed=number)
        except ValueError as error:
            raise UserError(f"{folder}: {size}: too few runs are done ({error})") from error
        base = curves[0].best if curves else best
        curves.append(SizeCurve(size, parameters[size], rates, [by_rate[r] for r in rates], best, shift(best, base)))
    return curves


def verdict(curve: SizeCurve, base: SizeCurve) -> str:
    """Whether the best rate stayed where it is for the base, as far as the interval says."""
    if not (curve.best.interior and base.best.interior):
        return "at an end of the rates"
    if curve.size == base.size:
        return "base"
    low, high = curve.moved.low, curve.moved.high
    if low >= 1 / STAYS and high <= STAYS:
        return "stays"
    return "moves" if high < 1 / STAYS or low > STAYS else "not resolved"


def transfer_table(curves: Sequence[SizeCurve]) -> Table:
    """One row for each size: its losses by rate, and its best rate over that of the base."""
    table = Table("size", "parameters", "rate: loss", "best rate", "over the base", "verdict", box=None)
    for number, curve in enumerate(curves):
        pairs = zip(curve.rates, curve.losses, strict=True)
        shown = (f"{rate:.3g}: {sum(some) / len(some):.4f}" if some else f"{rate:.3g}: failed" for rate, some in pairs)
        best, moved = curve.best, curve.moved
        table.add_row(
            curve.size,
            f"{curve.parameters:,}",
            ", ".join(shown),
            f"{best.rate:.3g} [{best.low:.3g}, {best.high:.3g}]" if best.interior else f"{best.rate:.3g} or beyond",
            f"{moved.factor:.2f} [{moved.low:.2f}, {moved.high:.2f}]" if number else "",
            verdict(curve, curves[0]),
        )
    return table


def transfer_as_json(curves: Sequence[SizeCurve]) -> list[dict[str, Any]]:
    """The curves without their replicates."""
    kept = []
    for number, curve in enumerate(curves):
        best = {name: value for name, value in curve.best._asdict().items() if name != "replicates"}
        one = curve._asdict() | {"best": best, "moved": curve.moved._asdict() if number else None}
        kept.append(one | {"verdict": verdict(curve, curves[0])})
    return kept


def tuned_config(config: ConfigDict, curves: Sequence[SizeCurve]) -> ConfigDict:
    """The config of the largest size with the best rate of the base."""
    grid = transfer_grid(config, [curves[-1].size], 1)
    found = next(one for one in grid if one.model.size == curves[-1].size)
    return override(found, [f"--config.optim.lr={float(f'{curves[0].best.rate:.3g}')!r}"])
