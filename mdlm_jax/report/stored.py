"""The results of an experiment without its run folders: one file with a list of them."""

import json
import os
import pathlib
from collections.abc import Sequence

from mdlm_jax.config import flatten, from_json
from mdlm_jax.errors import UserError
from mdlm_jax.files import write_whole
from mdlm_jax.report.groups import grouped
from mdlm_jax.runs.result import FILE_NAME, Result, read_results, validate

STORED_NAME = "results.json"


def write_stored(path: str | os.PathLike, results: Sequence[Result]) -> None:
    """Writes the results, whole or not at all. Raises UserError if the file cannot be written."""
    path = pathlib.Path(path)
    lines = [json.dumps(result._asdict(), allow_nan=False) for result in results]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, "[\n" + ",\n".join(lines) + "\n]\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); accepted: a file to write") from error


def find_stored(path: str | os.PathLike) -> tuple[list[Result], list[str], dict[str, pathlib.Path]]:
    """Stored results, given their file or the folder that holds it or the folders of the runs.

    Returns:
        The results, one line for each that cannot be read, and the folders of the runs by run id (none for a file).

    Raises:
        UserError: There are no results at `path`.
    """
    path = pathlib.Path(path)
    folders = sorted(file.parent for file in path.glob(f"*/{FILE_NAME}"))
    if not folders:
        return *read_stored(path / STORED_NAME if path.is_dir() else path), {}
    results, problems = read_results(folders)
    known = {folder.name: folder for folder in folders}
    runs = {run.run_id: known[run.run_id] for run in results if run.run_id in known}
    return grouped(results, {name: _settings(folder) for name, folder in runs.items()}), problems, runs


def _settings(folder: pathlib.Path) -> dict:
    path = folder / "config.json"
    return dict(flatten(from_json(path))) if path.exists() else {}


def read_stored(path: str | os.PathLike) -> tuple[list[Result], list[str]]:
    """The results in a file, and one line for each that breaks the schema or has the name of one before it.

    Raises:
        UserError: The file is no list of results.
    """
    try:
        entries = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); accepted: a file that --store wrote") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not whole JSON, line {error.lineno} ({error.msg})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON that can be read ({error})") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path}: expected a list of results, as --store writes it")
    results, problems = {}, []
    for index, entry in enumerate(entries):
        try:
            result = validate(entry, f"{path}, result {index}")
        except UserError as error:
            problems.append(str(error))
            continue
        if result.run_id in results:
            problems.append(f"{path}, result {index}: a second result of {result.run_id}; the first is used")
            continue
        results[result.run_id] = result
    return list(results.values()), problems
