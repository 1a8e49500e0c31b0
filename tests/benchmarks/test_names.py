"""Scripts that no test runs whole still find what they import from the package."""

import ast
import importlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def is_there(module: str, name: str) -> bool:
    try:
        return hasattr(importlib.import_module(module), name) or bool(importlib.import_module(f"{module}.{name}"))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "mdlm_jax":
            return False
    # a package of another extra is missing: the source says what it defines
    defined = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")).body
    return name in {getattr(node, "name", None) for node in defined}


def imports(tree: ast.AST):
    """Every import, except where another of an older version is tried in its place."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ImportFrom):
            yield node
        elif not isinstance(node, ast.ExceptHandler):
            yield from imports(node)


@pytest.mark.parametrize("folder", ["benchmarks", "experiments"])
def test_imported_names_exist(folder):
    wanted = [
        (path.name, node.module, alias.name)
        for path in sorted((ROOT / folder).glob("*.py"))
        for node in imports(ast.parse(path.read_text(encoding="utf-8")))
        if (node.module or "").partition(".")[0] == "mdlm_jax"
        for alias in node.names
    ]
    assert len(wanted) > 20
    assert [one for one in wanted if not is_there(*one[1:])] == []
