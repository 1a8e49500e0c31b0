"""Metrics of single items, as numbers whose mean over items is the metric of the task or a function of it."""

import math
from collections.abc import Mapping
from typing import Any

MEANS = ("mean", "nanmean")  # names of the harness's aggregations
PERPLEXITIES = ("perplexity", "weighted_perplexity")


def items_of(tasks: Mapping[str, Any], samples: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One entry an item: its task, its number, a digest of its document, and its metrics.

    A metric is [sum, weight]: over items, the metric of the task is the sum of the sums by the sum of the weights. For
    perplexities that is their logarithm, and the name says so. Metrics that are no mean over items (F1, BLEU) are left
    out.

    Args:
        tasks: The harness's tasks by name.
        samples: What it logged of each task.
    """
    found = {}
    for task, logged in samples.items():
        aggregations = tasks[task].aggregation()
        for sample in logged:
            empty = {"task": task, "item": sample["doc_id"], "document": sample["doc_hash"], "metrics": {}}
            metrics = found.setdefault((task, sample["doc_id"]), empty)["metrics"]
            for name in sample["metrics"]:
                how = getattr(aggregations.get(name), "__name__", "")
                pair = _sum_and_weight(how, sample[name])
                if pair is not None:
                    shown = name if sample["filter"] == "none" else f"{name}, {sample['filter']}"
                    metrics[f"log {shown}" if how in PERPLEXITIES else shown] = pair
    return list(found.values())


def _sum_and_weight(how: str, value: Any) -> list[float] | None:
    """[sum, weight] of one item; None where the metric is no mean over items, or not finite."""
    if how == "bits_per_byte":
        pair = [-float(value[0]) / math.log(2), float(value[1])]
    elif how == "weighted_perplexity":
        pair = [-float(value[0]), float(value[1])]
    elif how == "perplexity":
        pair = [-float(value), 1.0]
    elif how in MEANS and isinstance(value, (int, float)):
        pair = [float(value), 1.0]
    else:
        return None
    return pair if all(map(math.isfinite, pair)) else None
