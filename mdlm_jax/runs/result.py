"""result.json: the result of a run, which is all that an analysis reads of it."""

import json
import os
import pathlib
import typing
from collections.abc import Iterable
from typing import Any, NamedTuple

from mdlm_jax.costs.counters import COUNTERS
from mdlm_jax.errors import UserError
from mdlm_jax.files import write_whole
from mdlm_jax.runs.records import fits
from mdlm_jax.runs.saved import RESULT as FILE_NAME

SCHEMA_VERSION = 1
CHOICES = {
    "status": ("done", "failed"),
    "bound": ("exact", "upper", "none"),
    "kinship": ("", "branch", "weights"),
    "budget_counter": COUNTERS,
}
MEASURED = ("loss", "loss_standard_error", "loss_monte_carlo_error")  # not None if the run is done


class Result(NamedTuple):
    """The result of one run. Values that a failed run did not reach are None."""

    schema_version: int
    run_id: str
    objective: str
    size: str  # name in the ladder
    config_hash: str
    seed: int
    parameters_non_embedding: int
    parameters_total: int
    tokens: int  # D, including repetitions and inherited tokens
    tokens_per_step: int
    steps: int
    unique_tokens: int
    epochs: float  # tokens / unique_tokens
    flops: dict[str, float]  # by counter, including inherited FLOPs
    budget: float  # FLOPs configured, by the counter of the next field
    budget_counter: str
    loss: float | None  # validation nats per token with a loss
    loss_standard_error: float | None  # over validation sequences
    loss_monte_carlo_error: float | None  # the part of it from noise draws; 0 for an exact likelihood
    draws: int  # noise draws per validation sequence
    estimator: str
    bound: str
    bits_per_byte: float | None  # None where tokens are not bytes of text
    learning_rate: float
    batch_size: int  # sequences
    wall_seconds: float  # of the process that finished it
    compile_seconds: float
    device: str
    versions: dict[str, str]
    status: str
    cause: str  # of a failure; empty where done
    # fields of a run that continues another; older results lack them and get the defaults
    parent: str = ""  # its run_id
    kinship: str = ""  # branch (the whole state) | weights
    birth_step: int = 0  # the parent's step at which this run began
    inherited_tokens: int = 0  # part of `tokens`
    inherited_flops: dict[str, float] = {}  # part of `flops`
    likelihoods: dict[str, dict[str, float]] = {}  # tighter than `loss`, by name: nats per token, errors, draws
    optimizer_flops: float = 0.0  # of the optimiser's matrix products in this run's own steps; in no counter

    @property
    def own_tokens(self) -> int:
        """Tokens of this run alone."""
        return self.tokens - self.inherited_tokens

    @property
    def own_flops(self) -> dict[str, float]:
        """FLOPs of this run alone, by counter."""
        return {name: count - self.inherited_flops.get(name, 0.0) for name, count in self.flops.items()}


TYPES = typing.get_type_hints(Result)


def validate(fields: dict[str, Any], where: str) -> Result:
    """Checks the fields of a result.

    Args:
        fields: The fields of result.json.
        where: The file, for the message.

    Raises:
        UserError: A field breaks the schema; the message names `where` and the key.
    """
    if fields.get("schema_version") != SCHEMA_VERSION:
        raise UserError(
            f"{where}: schema_version is {fields.get('schema_version')!r}, this version reads {SCHEMA_VERSION}"
        )
    fields = Result._field_defaults | fields
    for key in [*Result._fields, *fields]:
        if key not in fields:
            raise UserError(f"{where}: key '{key}' is missing")
        if key not in TYPES:
            raise UserError(f"{where}: key '{key}' is not part of the schema")
        if not fits(fields[key], TYPES[key]):
            name = getattr(TYPES[key], "__name__", str(TYPES[key]))
            raise UserError(f"{where}: key '{key}' is {fields[key]!r}, expected {name}, finite where a number")
        if fields[key] not in CHOICES.get(key, [fields[key]]):
            raise UserError(f"{where}: key '{key}' is '{fields[key]}', expected one of {', '.join(CHOICES[key])}")
    if set(fields["flops"]) != set(COUNTERS):
        raise UserError(f"{where}: key 'flops' has {sorted(fields['flops'])}, expected {', '.join(COUNTERS)}")
    missing = [key for key in MEASURED if fields[key] is None]
    if fields["status"] == "done" and missing:
        raise UserError(f"{where}: key '{missing[0]}' is null, but status is 'done'")
    return Result(**fields)


def write_result(folder: str | os.PathLike, result: Result) -> pathlib.Path:
    """Writes `folder`/result.json atomically and returns its path.

    Raises:
        UserError: A field breaks the schema.
    """
    path = pathlib.Path(folder) / FILE_NAME
    validate(result._asdict(), str(path))
    write_whole(path, json.dumps(result._asdict(), indent=1, allow_nan=False) + "\n")
    return path


def read_result(path: str | os.PathLike) -> Result:
    """Reads one result.

    Raises:
        UserError: The file cannot be read or breaks the schema; the message names the file and the key.
    """
    try:
        fields = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not whole JSON, line {error.lineno} ({error.msg})") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        raise UserError(f"{path}: not JSON that can be read ({error})") from error
    if not isinstance(fields, dict):
        raise UserError(f"{path}: holds a {type(fields).__name__}, expected an object with the keys of a result")
    return validate(fields, str(path))


def read_results(folders: Iterable[str | os.PathLike]) -> tuple[list[Result], list[str]]:
    """Reads the results of run folders.

    If two folders have a result of the same run, the one with the run's name is used, else the first.

    Returns:
        The results, and one line for each result that is missing, unreadable or a duplicate.
    """
    found: dict[str, tuple[pathlib.Path, Result]] = {}
    problems = []
    for folder in folders:
        path = pathlib.Path(folder) / FILE_NAME
        extra = sorted(other for other in path.parent.glob("result*") if other.name != FILE_NAME)
        problems += [f"{other}: a second result in this folder; {FILE_NAME} is used" for other in extra]
        if not path.exists():
            problems.append(f"{path}: not there, the run has not ended")
            continue
        try:
            result = read_result(path)
        except UserError as error:
            problems.append(str(error))
            continue
        if result.run_id in found:
            before = found[result.run_id][0]
            used, other = (path, before) if path.parent.name == result.run_id else (before, path)
            problems.append(f"{other}: a second result of {result.run_id}; {used} is used")
            if used == before:
                continue
        found[result.run_id] = (path, result)
    return [result for _, result in found.values()], problems
