"""Importing a test module computes nothing: collection is fast, and a fault breaks its own test alone."""

import ast
import builtins
import importlib
import pathlib

import pytest

TESTS = pathlib.Path(__file__).parent
HARMLESS = (
    *("pathlib", "pytest", "hypothesis", "functools", "itertools", "re", "math", "typing", "collections"),
    "dataclasses",
)
ALLOWED = ("tfds.core.Version",)  # TFDS demands it of a class
OF_FILES = ("open", "read_text", "read_bytes", "write_text", "write_bytes", "mkdir", "unlink")
REFUSED = ("open", "exec", "eval", "input", "print", "__import__")
PACKAGE = TESTS.parent / "mdlm_jax"
OTHER_EXTRAS = {"torch", "transformers", "accelerate", "lm_eval", "wandb"}  # packages of other extras than dev
PROGRAMS = ("conftest.py", "sweeps/hindered_train.py")  # they prepare the tests, or run alone


def executed(node):
    """Every node that runs when its module is imported: decorators and defaults, but no body of a function."""
    if isinstance(node, (ast.FunctionDef, ast.Lambda)):
        parts = [*node.args.defaults, *(default for default in node.args.kw_defaults if default)]
        parts += getattr(node, "decorator_list", [])
    else:
        yield node
        parts = ast.iter_child_nodes(node)
    for part in parts:
        yield from executed(part)


def imports(tree):
    """From each imported name to its module and, of a name taken out of a module, the name there."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.asname or alias.name.partition(".")[0]: (alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
    return found


def is_record(module, name):
    """Whether a name is a NamedTuple: made of literals, it is one."""
    value = getattr(importlib.import_module(module), name, None)
    return isinstance(value, type) and issubclass(value, tuple) and hasattr(value, "_fields")


def computes(call, imported, defined):
    """Whether a call does more than to put literals together."""
    root = call.func
    if isinstance(root, ast.Attribute) and root.attr in OF_FILES:
        return True
    while isinstance(root, (ast.Attribute, ast.Subscript, ast.Call)):
        root = root.func if isinstance(root, ast.Call) else root.value
    if not isinstance(root, ast.Name):
        return False  # a method of a literal
    if root.id in imported:
        module, name = imported[root.id]
        return module.partition(".")[0] not in HARMLESS and not is_record(module, name)
    return root.id in defined or root.id in REFUSED or (call.func is root and not hasattr(builtins, root.id))


def offenders(source):
    """Line and text of each call of a module that computes while the module is imported."""
    tree = ast.parse(source)
    imported = imports(tree)
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for statement in tree.body:
        if isinstance(statement, ast.If) and "__main__" in ast.unparse(statement.test):
            continue
        calls = (node for node in executed(statement) if isinstance(node, ast.Call))
        for call in calls:
            if ast.unparse(call.func) not in ALLOWED and computes(call, imported, defined):
                yield call.lineno, ast.unparse(call)


def test_importing_a_test_module_computes_nothing():
    found = []
    for path in sorted(TESTS.rglob("*.py")):
        where = path.relative_to(TESTS).as_posix()
        if where not in PROGRAMS:
            found += [f"{where}:{line}: {text}" for line, text in offenders(path.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


def imported_by(path):
    """The modules that a file imports when it is imported; a name out of a module may be one itself."""
    pairs = imports(ast.parse(path.read_text(encoding="utf-8"))).values()
    return {name for module, inner in pairs for name in (module, f"{module}.{inner}") if module}


def needing_other_extras():
    """Packages of other extras, and the modules of this package that import one, perhaps through others."""
    files = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    needs = {name: imported_by(path) for name, path in files.items()}
    found = set(OTHER_EXTRAS)
    while more := {
        name
        for name, modules in needs.items()
        if name not in found and any(one in found or one.partition(".")[0] in OTHER_EXTRAS for one in modules)
    }:
        found |= more
    return found


def test_a_test_module_needs_the_extra_dev_alone():
    """A package of another extra is imported inside the slow tests that use it."""
    refused = needing_other_extras()
    assert {"mdlm_jax.harness.adapter", "mdlm_jax.harness.items", "mdlm_jax.bench.torch_side"} <= refused
    found = [
        f"{path.relative_to(TESTS)}: {module}"
        for path in sorted(TESTS.rglob("*.py"))
        for module in imported_by(path)
        if module in refused or module.partition(".")[0] in OTHER_EXTRAS
    ]
    assert not found, found


HEAD = """
import functools
import numpy as np
import pathlib
import pytest
from mdlm_jax.sampling import Ancestral
from mdlm_jax.schedules import linear
def f(x): return np.ones(x)
"""


@pytest.mark.parametrize(
    "line",
    [
        "TIMES = np.array([1.0])",
        "SCHEDULE = linear()",
        "ONES = f(3)",
        "CASES = [f(x).sum() for x in (1, 2)]",
        "PAGE = pathlib.Path('README.md').read_text()",
        "TEXT = open('README.md').read()",
        "@pytest.mark.parametrize('x', [np.ones(3)])\ndef test_x(x): pass",
        "def g(x=linear()): pass",
        "class A:\n    x = linear()",
    ],
)
def test_computations_are_found(line):
    assert list(offenders(HEAD + line))


@pytest.mark.parametrize(
    "line",
    [
        "CASES = {'linear': lambda: linear()}",
        "PLAN = Ancestral(steps=3)._replace(steps=4)",
        "NAMES = sorted({'b', 'a'})",
        "ROOT = pathlib.Path(__file__).parents[1] / 'docs'",
        "half = functools.partial(f, 3)",
        "@functools.cache\ndef g(): return linear()",
        "if __name__ == '__main__':\n    print(f(3))",
    ],
)
def test_literals_are_allowed(line):
    assert not list(offenders(HEAD + line))
