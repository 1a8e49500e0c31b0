"""Functions from a user's own code, by name: `FILE.py:FUNCTION`, or `module:function` of an installed package."""

import functools
import hashlib
import importlib
import importlib.util
import pathlib
import sys
import types
from collections.abc import Callable

from mdlm_jax.errors import UserError
from mdlm_jax.user_file import explained, refuse_async

FORM = "FILE.py:FUNCTION or module:function"


def is_plugin(name: str) -> bool:
    """Whether a name refers to a user's own function and not to one of the package."""
    return ":" in name


def load_function(name: str) -> Callable:
    """The function that a plug-in name refers to.

    A file runs once per content: loading it again returns the same function until the file changes. The folder of the
    file is not searched for imports, so a file stands alone or imports installed packages.

    Args:
        name: `FILE.py:FUNCTION`, the path relative to the current folder, or `module:function`.

    Raises:
        UserError: The file or module is missing or fails, or has no such function.
    """
    where, function = _parts(name)
    module = _run_file(str(plugin_path(name)), plugin_source(name)) if where.endswith(".py") else _imported(where)
    found = getattr(module, function, None)
    if not callable(found):
        raise UserError(f"{where} has no function {function!r}; accepted: {FORM}")
    refuse_async(where, function, found)
    return found


def plugin_path(name: str) -> pathlib.Path:
    """The file that defines a plug-in, relative to the current folder where the name is.

    Raises:
        UserError: The module is missing or has no source file.
    """
    where, _ = _parts(name)
    return pathlib.Path(where) if where.endswith(".py") else _module_file(where)


def plugin_source(name: str) -> bytes:
    """The source text that defines a plug-in.

    Raises:
        UserError: The file or module is missing.
    """
    where, _ = _parts(name)
    try:
        return plugin_path(name).read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{where}: no such file; accepted: {FORM}") from error
    except OSError as error:
        raise UserError(f"{where}: cannot be read ({error.strerror}); accepted: {FORM}") from error


def source_digest(name: str) -> str:
    """SHA-256 of the source of a plug-in, as hex digits. Raises UserError as `plugin_source` does."""
    return hashlib.sha256(plugin_source(name)).hexdigest()


def plugin_label(name: str) -> str:
    """A short name for runs and reports.

    >>> plugin_label("mine/objectives.py:make")
    'objectives.make'
    >>> plugin_label("package.module:make")
    'module.make'
    """
    where, function = _parts(name)
    stem = pathlib.PurePath(where).stem if where.endswith(".py") else where.rpartition(".")[2]
    return f"{stem}.{function}"


def _parts(name: str) -> tuple[str, str]:
    where, _, function = name.rpartition(":")
    if not where or not function.isidentifier():
        raise UserError(f"{name!r}; accepted: {FORM}")
    return where, function


def _module_file(name: str) -> pathlib.Path:
    try:
        spec = importlib.util.find_spec(name)
    except Exception as error:  # a parent package runs, and can raise anything
        raise UserError(f"{name}: {_one_line(error)}; accepted: {FORM}") from error
    if spec is None:
        raise UserError(f"{name}: no such module; accepted: {FORM}")
    if not spec.has_location or spec.origin is None:
        raise UserError(f"{name}: a module without a source file; accepted: {FORM}")
    return pathlib.Path(spec.origin)


def _imported(name: str) -> types.ModuleType:
    _module_file(name)
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever a user's module raises
        raise UserError(f"{name}: {_one_line(error)}") from error


@functools.lru_cache(maxsize=64)
def _run_file(path: str, source: bytes) -> types.ModuleType:
    """The module that this source makes; registered, because dataclasses and pickles look their module up."""
    module = types.ModuleType(f"mdlm_jax_plugin_{hashlib.sha256(path.encode() + source).hexdigest()[:16]}")
    module.__file__ = path
    sys.modules[module.__name__] = module
    try:
        with explained(pathlib.Path(path)):
            exec(compile(source, path, "exec"), module.__dict__)
    except UserError:
        del sys.modules[module.__name__]
        raise
    return module


def _one_line(error: BaseException) -> str:
    """The error's type, message and, for a syntax error, line, without line breaks."""
    return " ".join(f"{type(error).__name__}: {error}".split())
