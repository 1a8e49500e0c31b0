"""Python files that a user writes, such as configs and experiments: run, with their mistakes in one line."""

import contextlib
import inspect
import pathlib
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from mdlm_jax.errors import UserError


def run_file(path: pathlib.Path) -> dict[str, Any]:
    """The names that a Python file defines. The folder above its own is on the import path from then on.

    Raises:
        UserError: The file raises; the line says where.
    """
    root = str(path.resolve().parents[1]) if len(path.resolve().parents) > 1 else "/"
    if root not in sys.path:
        sys.path.insert(0, root)  # a config imports the one that it differs from as `configs.base`
    with explained(path):
        return runpy.run_path(str(path))


def refuse_async(where: object, name: str, function: Callable) -> None:
    """Raises UserError if the function of a user's file is async: its result would never be awaited."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise UserError(f"{where}: {name} is async; accepted: a plain function")


@contextlib.contextmanager
def explained(path: pathlib.Path, name: str = "", doing: str = "") -> Iterator[None]:
    """Turns whatever code from the file at `path` raises into a UserError of one line.

    Args:
        path: The user's file; the message gives the last of its lines that was running.
        name: Name of the file in the message; by default its path.
        doing: What the code was called for, if the message needs it.
    """
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # whatever a user's code raises
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        where = (name or str(path)) + (f", line {line}" if line else "") + (f": {doing}" if doing else "")
        message = " ".join(str(error).split())[:300]
        raise UserError(f"{where}: {type(error).__name__}" + (f": {message}" if message else "")) from error
