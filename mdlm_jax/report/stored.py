"""The results of an experiment in one file: a list of them, which a report needs no run folders for."""

import json
import os
import pathlib
from collections.abc import Sequence

from mdlm_jax.errors import UserError
from mdlm_jax.files import write_whole
from mdlm_jax.runs.result import Result, validate


def write_stored(path: str | os.PathLike, results: Sequence[Result]) -> None:
    """Writes the results, whole or not at all. Raises UserError where the file can not be written."""
    path = pathlib.Path(path)
    lines = [json.dumps(result._asdict(), allow_nan=False) for result in results]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, "[\n" + ",\n".join(lines) + "\n]\n")
    except OSError as error:
        raise UserError(f"{path}: can not be written ({error.strerror}); accepted: a file to write") from error


def read_stored(path: str | os.PathLike) -> tuple[list[Result], list[str]]:
    """The results in a file, and one line for each that breaks the schema or has the name of one before it.

    Raises UserError where the file is no list of results.
    """
    try:
        entries = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); accepted: a file that --store wrote") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not whole JSON, line {error.lineno} ({error.msg})") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path}: expected a list of results, as --store writes it")
    results, problems = {}, []
    for place, entry in enumerate(entries):
        try:
            result = validate(entry, f"{path}, result {place}")
        except UserError as error:
            problems.append(str(error))
            continue
        if result.run_id in results:
            problems.append(f"{path}, result {place}: a second result of {result.run_id}; the first is used")
            continue
        results[result.run_id] = result
    return list(results.values()), problems
