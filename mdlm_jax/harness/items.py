"""Metrics of single items, as numbers whose mean over items is the metric of the task or a function of it."""

import json
import math
from typing import Any

from lm_eval.utils import handle_non_serializable, hash_string

from mdlm_jax.harness.lines import Lines

MEANS = ("mean", "nanmean")  # names of the harness's aggregations
PERPLEXITIES = ("perplexity", "weighted_perplexity")


def keep_items(task: Any, name: str, lines: Lines) -> None:
    """Makes a task of the harness write one line an item as soon as all its metrics are known.

    A line has the task, the item's number, a digest of its document, and its metrics. A metric is [sum, weight]: over
    items, the metric of the task is the sum of the sums by the sum of the weights. For perplexities that is their
    logarithm, and the name says so. Metrics that are no mean over items (F1, BLEU) are left out.

    The harness asks a task for the metrics of all its items under one filter after another, in order. Its own log
    would hold every document with its prompts and answers; here only the metrics under earlier filters are held.

    Args:
        task: The task, whose `process_results` is replaced.
        name: Its name.
        lines: Where the items go.
    """
    process, aggregations, seen = task.process_results, task.aggregation(), 0
    items: list[int] = []
    held: dict[int, dict[str, list[float]]] = {}

    def processed(doc: Any, results: Any) -> Any:
        nonlocal seen
        if not seen:
            items.extend(dict.fromkeys(instance.doc_id for instance in task.instances))
        filters = list(task.instances[0].filtered_resps)
        which, place = divmod(seen, len(items))
        seen += 1
        found = process(doc, results)
        metrics = held.pop(place, {})
        for metric, value in found.items():
            how = getattr(aggregations.get(metric), "__name__", "")
            pair = _sum_and_weight(how, value)
            if pair is not None:
                shown = metric if filters[which] == "none" else f"{metric}, {filters[which]}"
                metrics[f"log {shown}" if how in PERPLEXITIES else shown] = pair
        if which + 1 < len(filters):
            held[place] = metrics
        else:
            lines.add({"task": name, "item": items[place], "document": _digest(doc), "metrics": metrics})
        return found

    task.process_results = processed


def _digest(doc: Any) -> str:
    """The harness's own digest of a document."""
    return hash_string(json.dumps(doc, indent=2, default=handle_non_serializable, ensure_ascii=False))


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
