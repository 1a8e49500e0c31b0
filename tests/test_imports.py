"""Rooms are ordered: no room imports one above it."""

import ast
import pathlib

PACKAGE = pathlib.Path(__file__).parents[1] / "mdlm_jax"
ROOMS = [
    *(
        "errors",
        "interrupts",
        "files",
        "whole_folder",
        "kinds",
        "noise",
        "malloc",
        "style",
        "tables",
        "user_file",
        "plugins",
        "schedules",
        "configs",
    ),
    *(
        "config",
        "image_tokenizers",
        "data",
        "processes",
        "objectives",
        "models",
        "costs",
        "training",
        "evaluation",
        "build",
    ),
    *("weights", "runs"),
    *(
        "exact",
        "sampling",
        "harness",
        "bench",
        "laws",
        "report",
        "sweeps",
        "experiments",
        "cli",
        "api",
        "__main__",
        "__init__",
    ),
]


def imported(path):
    """Every module of the package that a file imports, at the top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module == "mdlm_jax":
            names = [f"mdlm_jax.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (name for name in names if name.startswith("mdlm_jax."))


def test_no_import_runs_upwards():
    rank = {room: position for position, room in enumerate(ROOMS)}
    upward = []
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        upward += [
            f"{path.relative_to(PACKAGE)}: {name}" for name in imported(path) if rank[name.split(".")[1]] > rank[room]
        ]
    assert not upward, "\n".join(upward)


def test_every_room_has_a_rank():
    found = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert found == set(ROOMS)
