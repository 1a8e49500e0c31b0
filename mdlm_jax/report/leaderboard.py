"""Models on the same items of tasks: what each reached, and how they differ."""

import itertools
import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mdlm_jax.errors import UserError
from mdlm_jax.harness.evaluate import RESULTS
from mdlm_jax.harness.lines import ITEMS
from mdlm_jax.report.paired import Interval, Mean, difference, interval, mean

Item = tuple[str, int, str]  # task, number, digest of the document


class Model(NamedTuple):
    """What the harness wrote of a model."""

    label: str
    result: dict[str, Any]
    items: dict[Item, dict[str, list[float]]]  # from metrics to [sum, weight]


class Column(NamedTuple):
    """A metric of a task."""

    task: str
    metric: str
    items: int
    higher_is_better: bool


class Board(NamedTuple):
    """Models x metrics."""

    models: list[Model]
    columns: list[Column]
    scores: dict[str, list[Interval]]  # of a model, by column
    differences: dict[tuple[str, str], list[Interval]]  # of one model minus another, by column


def read_board(folders: Sequence[pathlib.Path]) -> Board:
    """Compares what `mdlm-jax harness` wrote into folders.

    Args:
        folders: One or more.

    Raises:
        UserError: A folder holds no results, or not of the same items as the first.
    """
    labels = [folder.resolve().name for folder in folders]
    if len(set(labels)) < len(labels):
        labels = [str(folder) for folder in folders]
    if len(set(labels)) < len(labels):
        raise UserError(f"{_repeated(labels)} is there twice; accepted: each folder once")
    models = [_read(folder, label) for folder, label in zip(folders, labels, strict=True)]
    for folder, model in zip(folders, models, strict=True):
        _check_same(folders[0], models[0], folder, model)
    columns = _columns(models)
    if not columns:
        raise UserError(f"{folders[0]}: no metric is a mean over items; accepted: tasks with accuracies or likelihoods")
    means = {model.label: [_mean(model, column) for column in columns] for model in models}
    return Board(
        models,
        columns,
        {label: [interval(one) for one in found] for label, found in means.items()},
        {
            (one, other): [difference(*both) for both in zip(means[one], means[other], strict=True)]
            for one, other in itertools.combinations(means, 2)
        },
    )


def _repeated(labels: Sequence[str]) -> str:
    return next(label for label in labels if labels.count(label) > 1)


def _read(folder: pathlib.Path, label: str) -> Model:
    accepted = "accepted: a folder that mdlm-jax harness wrote"
    try:
        result = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        lines = (folder / ITEMS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{folder}: no {RESULTS} and {ITEMS} that can be read; {accepted}") from error
    items = {}
    for number, line in enumerate(lines, start=1):
        try:
            item = json.loads(line)
            key = str(item["task"]), int(item["item"]), str(item["document"])
            items[key] = {str(name): [float(total), float(weight)] for name, (total, weight) in item["metrics"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{folder / ITEMS}, line {number}: not an item; {accepted}") from error
    if not isinstance(result, dict) or not isinstance(result.get("higher_is_better"), dict) or not items:
        raise UserError(f"{folder}: {RESULTS} has no metrics, or {ITEMS} no items; {accepted}")
    return Model(label, result, items)


def _check_same(first: pathlib.Path, expected: Model, folder: pathlib.Path, model: Model) -> None:
    """Raises UserError unless two models have the same items."""
    other = expected.items.keys() ^ model.items.keys()
    if not other:
        return
    task, number, _ = min(other)
    raise UserError(
        f"{folder}: its items are not those of {first}: item {number} of {task} is in one of them alone, or has "
        f"another document; accepted: the same tasks and documents"
    )


def _columns(models: Sequence[Model]) -> list[Column]:
    """The metrics that all items of a task have in all models, in the order of the first one's items."""
    found = dict.fromkeys((key[0], name) for key, metrics in models[0].items.items() for name in metrics)
    columns = []
    for task, name in found:
        given = [metrics for model in models for key, metrics in model.items.items() if key[0] == task]
        if all(name in metrics for metrics in given) and sum(metrics[name][1] for metrics in given) > 0:
            plain = name.removeprefix("log ").partition(", ")[0]
            better = models[0].result["higher_is_better"].get(task, {})
            columns.append(Column(task, name, len(given) // len(models), bool(better.get(plain, True))))
    return columns


def _mean(model: Model, column: Column) -> Mean:
    keys = sorted(key for key in model.items if key[0] == column.task)
    sums, weights = np.array([model.items[key][column.metric] for key in keys]).T
    return mean(sums, weights)
