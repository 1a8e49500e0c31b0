"""Custom objectives, processes and schedules: `FILE.py:FUNCTION` and `module:function`."""

import inspect
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import pytest

from mdlm_jax.build import plan
from mdlm_jax.build.described import DESCRIBED
from mdlm_jax.build.objective import (
    objective_label,
    objective_of,
    objective_source_digest,
    read_keys,
)
from mdlm_jax.config import load_config
from mdlm_jax.configs.objective_keys import NEVER_IN_BLOCKS
from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.objectives import OBJECTIVES
from mdlm_jax.objectives.ar_of_modalities import ar_of_modalities
from mdlm_jax.objectives.block import block
from mdlm_jax.plugins import load_function
from mdlm_jax.processes import PROCESSES
from tests import run_folders as runs

MINE = """
from mdlm_jax.objectives.masked import masked
from mdlm_jax.objectives.score_entropy import sedd
from mdlm_jax.processes.mixture import uniform

def make(mask_id, schedule, independent_times=True):
    return masked(mask_id, schedule, independent_times=independent_times)

def noise(vocab):
    return uniform(vocab, square())

def square():
    return lambda t: t**2
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A user's file, in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


def config(**objective):
    base = load_config(str(runs.ROOT / "configs/base.py"))
    base.model.vocab_size = 256
    for key, value in objective.items():
        base.objective[key] = value
    return base


def test_factory_gets_config_values(mine):
    """The plug-in reads `schedule` and `independent_times` as `masked` does."""
    keys = {"schedule": "cosine", "independent_times": False}
    ours, theirs = (plan(config(name=name, **keys)).objective for name in ("masked", "mine.py:make"))
    example = Example(jnp.arange(8), jnp.ones(8, jnp.int32), jnp.zeros(8, bool))
    one, two = (objective.view((), jax.random.key(0), example, 0.3) for objective in (ours, theirs))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, one, two))
    assert read_keys("mine.py:make") == read_keys("masked") - {"objective.complementary", "objective.num_steps"}


def test_custom_process_and_schedule(mine):
    objective = objective_of(config(name="sedd", process="mine.py:noise"), 256)
    assert objective.parameterization(()).process.states == 256
    squared = objective_of(config(name="udlm", schedule="mine.py:square"), 256).parameterization(()).process
    assert float(squared.mixture.amounts(jnp.float32(0.5)).kept) == 0.75
    assert objective_label(config(name="sedd", process="mine.py:noise")) == "sedd-mine.noise-raw"
    assert objective_label(config(name="mine.py:make")) == "mine.make"


def test_changed_file_changes_the_objective(mine):
    """Its digest, its function and its plan change with the file, and only then."""
    first = config(name="mine.py:make")
    digest, function, planned = objective_source_digest(first), load_function("mine.py:make"), plan(first)
    assert load_function("mine.py:make") is function and plan(first).objective is planned.objective
    mine.write_text(MINE.replace("independent_times=independent_times", "num_steps=7"))
    assert objective_source_digest(first) != digest
    assert plan(first).objective.estimator != planned.objective.estimator
    assert objective_source_digest(config(name="masked")) == ""


def test_changed_process_changes_the_plan(mine):
    first = config(name="sedd", process="mine.py:noise")
    before = plan(first).objective
    mine.write_text(MINE.replace("t**2", "t**3"))
    after = plan(first).objective
    kept = [float(o.parameterization(()).process.mixture.amounts(jnp.float32(0.5)).kept) for o in (before, after)]
    assert kept == [0.75, 0.875]


def test_installed_module(tmp_path, monkeypatch):
    package = tmp_path / "theirs"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "objectives.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    planned = plan(config(name="theirs.objectives:make"))
    assert planned.objective.bound == "upper"
    assert objective_label(config(name="theirs.objectives:make")) == "objectives.make"
    assert len(objective_source_digest(config(name="theirs.objectives:make"))) == 64


WRONG = {
    "mine.py:nothing": (MINE, "mine.py has no function 'nothing'; accepted: FILE.py:FUNCTION or module:function"),
    "other.py:make": (MINE, "other.py: no such file; accepted: FILE.py:FUNCTION or module:function"),
    "no_such_module:make": (MINE, "no_such_module: no such module; accepted"),
    "json:dumps2": (MINE, "json has no function 'dumps2'"),
    "mine.py:": (MINE, "'mine.py:'; accepted: FILE.py:FUNCTION"),
    "mine.py:square": (MINE, "mine.py:square returned function; accepted: a mdlm_jax.objectives.Objective"),
    "mine.py:a": ("def a(mask_id, beta): pass", "no key of a config describes its parameter 'beta'; accepted: mask_id"),
    "mine.py:b": ("def b(:\n", "mine.py, line 1: SyntaxError: invalid syntax"),
    "mine.py:c": ("1 / 0\n", "mine.py, line 1: ZeroDivisionError: division by zero"),
    "mine.py:d": ("raise SystemExit(3)\n", "mine.py, line 1: SystemExit: 3"),
    "mine.py:e": ("def e(mask_id):\n    return mask_id['a\\nb']", "mine.py:e, line 2: TypeError: 'int' object"),
    "mine.py:g": ("async def g(mask_id): pass", "mine.py: g is async; accepted: a plain function"),
    "mine.py:f": (
        """
        from mdlm_jax.objectives.autoregressive import ar

        def f(mask_id):
            def token_loss(objective_params, logits, view):
                return logits @ view.targets
            return ar(mask_id)._replace(token_loss=token_loss)
        """,
        "mine.py:f, line 5: view or token_loss: TypeError: ",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_mistake_gives_one_line(name, mine):
    source, line = WRONG[name]
    mine.write_text(textwrap.dedent(source).lstrip())
    with pytest.raises(UserError) as refused:
        plan(config(name=name))
    assert line in str(refused.value) and "\n" not in str(refused.value)


def test_keys_of_every_objective():
    """Every key of `objective.*` is read by some objective, and only by those whose factory needs it."""
    keys = {f"objective.{key}" for key in config().objective}
    assert set().union(*(read_keys(name) for name in OBJECTIVES)) == keys
    assert read_keys("ar") == {"objective.name", "objective.order"}
    assert "objective.mask_share" in read_keys("sedd")
    assert "objective.mask_share" not in read_keys("sedd", config(name="sedd").objective)
    assert "objective.mask_share" in read_keys("sedd", config(process="hybrid").objective)
    assert "objective.power" not in read_keys("masked", config().objective)
    assert "objective.epsilon" in read_keys("masked", config(epsilon_convention="md4").objective)
    assert "objective.block_low" not in read_keys("masked", config().objective)


def test_described_parameters_match_factories():
    factories = [*OBJECTIVES.values(), *PROCESSES.values(), ar_of_modalities]
    assert set().union(*(inspect.signature(factory).parameters for factory in factories)) == set(DESCRIBED)


@pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - {"unified"}))  # of which the keys alone are refused
def test_blocks_are_refused_without_block_keys(name):
    objective = objective_of(config(name=name), 4)
    if name in NEVER_IN_BLOCKS:
        with pytest.raises(UserError, match="block diffusion needs"):
            block(objective, 4, 8)
    else:
        block(objective, 4, 8)


def test_command_trains_and_evaluates(mine, tmp_path):
    """The current folder is not the repository, and the config is given by path."""
    run = tmp_path / "run"
    corpus = tmp_path / "input.txt"
    corpus.write_text("the quick brown fox jumps over the lazy dog. " * 200)
    keys = {
        "objective.name": "mine.py:make",
        "data.source": "text",
        "data.path": corpus,
        "data.sequence_length": 16,
        "model.size": "2k",
        "train.batch_size": 4,
        "eval.sequences": 4,
        "eval.draws": 2,
        "steps": 2,
    }
    flags = [f"--config.{key}={value}" for key, value in keys.items()]

    def command(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "mdlm_jax", *map(str, arguments)],
            env=runs.environment(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    command("train", "--run", run, "--config", runs.ROOT / "configs/base.py", *flags)
    assert '"objective": "mine.py:make"' in command("evaluate", "--run", run)
