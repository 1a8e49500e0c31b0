"""What a run's samples cost and are worth: samples.json in its folder."""

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mdlm_jax.runs.result import Result

FILE_NAME = "samples.json"
ABOUT = {"judge": str, "length": int, "rows": int, "device": str}
NUMBERS, ESTIMATES = ("tokens_per_second", "evaluations"), ("judge_nats", "entropy")


class SamplerResult(NamedTuple):
    """One way to sample. Estimates are (mean, standard error), in nats per token."""

    plan: str
    tokens_per_second: float
    evaluations: float
    judge_nats: tuple[float, float]
    entropy: tuple[float, float]


class Sampled(NamedTuple):
    run: Result
    judge: str  # run id
    length: int
    rows: int
    device: str
    plans: list[SamplerResult]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _mistake(fields: Any) -> str | None:
    """What is wrong with the contents of a file, if anything."""
    if not isinstance(fields, dict) or not isinstance(fields.get("samples"), list):
        return "expected an object with a list 'samples'"
    for key, kind in ABOUT.items():
        if not isinstance(fields.get(key), kind):
            return f"key '{key}' is {fields.get(key)!r}, expected {kind.__name__}"
    for index, sample in enumerate(fields["samples"]):
        where = f"sample {index}: "
        if not isinstance(sample, dict) or not isinstance(sample.get("plan"), str):
            return f"{where}expected an object with the name of its 'plan'"
        for key in NUMBERS:
            if not _number(sample.get(key)) or sample[key] <= 0:
                return f"{where}key '{key}' is {sample.get(key)!r}, expected a positive number"
        for key in ESTIMATES:
            value = sample.get(key)
            if not isinstance(value, list) or len(value) != 2 or not all(map(_number, value)):
                return f"{where}key '{key}' is {value!r}, expected a mean and its standard error"
    return None


def read_samples(runs: Sequence[Result], folders: Mapping[str, pathlib.Path]) -> tuple[list[Sampled], list[str]]:
    """Of the runs whose folder has the file, and one line for each file that cannot be read."""
    found, problems = [], []
    for run in runs:
        path = folders.get(run.run_id, pathlib.Path()) / FILE_NAME
        if run.run_id not in folders or not path.exists():
            continue
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            problems.append(f"{path}: not whole JSON ({error})")
            continue
        if mistake := _mistake(fields):
            problems.append(f"{path}: {mistake}")
            continue
        plans = [
            SamplerResult(
                one["plan"], *(float(one[key]) for key in NUMBERS), *(tuple(map(float, one[key])) for key in ESTIMATES)
            )
            for one in fields["samples"]
        ]
        found.append(Sampled(run, *(fields[key] for key in ABOUT), plans))
    return found, problems
