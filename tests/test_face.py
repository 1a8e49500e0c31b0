"""`import mdlm_jax as mj`: light, complete, and independent of earlier imports."""

import ast
import inspect
import json
import os
import pathlib
import re
import subprocess
import sys
import types

import pytest

import mdlm_jax as mj

ROOT = pathlib.Path(__file__).parents[1]
IMPORTED = re.compile(r"\s*(from|import) mdlm_jax\b")


def python(code):
    """What a new process prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": "."}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", mj.__all__)
def test_every_name_resolves(name):
    assert getattr(mj, name) is not None
    assert name in dir(mj)


def test_public_names_have_docstrings():
    for name in mj.__all__:
        value = getattr(mj, name)
        if name != "__version__":
            assert inspect.getdoc(value) and "\n" in inspect.getsource(value), name


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        mj.nonsense  # noqa: B018


def test_import_is_light():
    """It takes neither JAX nor NumPy, and of the package the face alone."""
    code = "import mdlm_jax, sys; print(*(name for name in sys.modules if name.partition('.')[0] in found))"
    found = python("found = ('mdlm_jax', 'jax', 'numpy'); " + code).split()
    assert found == ["mdlm_jax"]


@pytest.mark.parametrize(
    "first",
    [
        "from mdlm_jax.build.objective import objective_of",
        "import mdlm_jax.build",
        "import mdlm_jax; mdlm_jax.build; import mdlm_jax.build.objective",
    ],
)
def test_build_is_the_function(first):
    """The result does not depend on the first import."""
    assert (
        python(f"{first}\nimport mdlm_jax as mj; print(type(mj.build).__name__, mj.build.__name__)") == "function build"
    )


def test_static_and_lazy_names_agree():
    """The names that editors read under TYPE_CHECKING, `__all__` and the table of homes are the same."""
    (static,) = (node for node in ast.parse(inspect.getsource(mj)).body if isinstance(node, ast.If))
    listed = {alias.name for node in static.body for alias in node.names}
    assert listed == set(mj._HOMES) == set(mj.__all__) - {"__version__"}


def test_version_matches_the_package():
    from importlib.metadata import version

    assert mj.__version__ == version("mdlm-jax")


def shown_code():
    """(where, code) of everything that a reader may copy: notebooks, and Python blocks of README and docs."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        yield path.name, "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for block in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            yield path.name, block


def test_shown_code_imports_only_the_face():
    paths = {line.strip() for _, code in shown_code() for line in code.splitlines() if IMPORTED.match(line)}
    assert paths == {"import mdlm_jax as mj"}


def test_shown_code_uses_existing_names():
    wrong = []
    for where, code in shown_code():
        for chain in sorted(set(re.findall(r"\bmj((?:\.[A-Za-z_]\w*)+)", code))):
            value = mj
            for name in chain.split(".")[1:]:
                if not isinstance(value, types.ModuleType):
                    break
                if not hasattr(value, name):
                    wrong.append(f"{where}: mj{chain}")
                value = getattr(value, name, None)
    assert not wrong, "\n".join(wrong)
