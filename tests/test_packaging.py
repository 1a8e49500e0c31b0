"""An installed wheel is all that a user needs."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.run_folders import CHEAP_FLAGS

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = '''
import mdlm_jax as mj


def get_config():
    """The quickstart preset, a few steps long."""
    config = mj.load_config("quickstart")
    config.budget = 0.0
    config.steps = 4
    config.eval.sequences = 8
    return config
'''
EXPERIMENT = '''
"""Two objectives, two sizes."""

import mdlm_jax as mj

TITLE = "A small grid"


def grid():
    configs = []
    for objective in ("ar", "masked"):
        for size in ("0.53k", "2k"):
            config = mj.load_config("quickstart", ["--config.objective.name=" + objective])
            config.model.size = size
            config.budget = 2e8
            config.eval.sequences = 8
            configs.append(config)
    return configs
'''


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the installed wheel and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    shutil.copytree(ROOT / "mdlm_jax", source / "mdlm_jax", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.mark.slow
def test_wheel_holds_the_data_files(site):
    for name in ("py.typed", "configs/base.py", "report/page.html", "sampling/show/replay.html"):
        assert (site / "mdlm_jax" / name).is_file(), name
    assert list(site.glob("*.dist-info/licenses/LICENSE"))
    assert {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")} == {"mdlm_jax"}


@pytest.mark.slow
def test_installed_wheel_runs_every_command(site, tmp_path):
    """It checks, trains, sweeps and reports."""

    def mdlm_jax(*arguments, code=("-m", "mdlm_jax")):
        environment = os.environ | {"PYTHONPATH": str(site), "XLA_FLAGS": CHEAP_FLAGS, "JAX_PLATFORMS": "cpu"}
        done = subprocess.run(
            [sys.executable, *code, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    where = mdlm_jax(code=("-c", "import mdlm_jax; print(mdlm_jax.__file__)")).strip()
    assert pathlib.Path(where).is_relative_to(site)
    (tmp_path / "mine.py").write_text(CONFIG)
    (tmp_path / "grid.py").write_text(EXPERIMENT)
    assert "holds" in mdlm_jax("check", "masked", "--draws", "2000")
    mdlm_jax("train", "--run", "runs/one", "--config", "mine.py")
    assert (tmp_path / "runs" / "one" / "result.json").is_file()
    mdlm_jax("sweep", "run", "grid.py")
    assert (tmp_path / "runs" / "grid" / "report.html").is_file()
    mdlm_jax("sweep", "report", "grid.py", "--out", "again")
    assert (tmp_path / "again" / "report.html").stat().st_size > 100_000
