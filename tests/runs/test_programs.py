"""Runs of one process share compiled programs: nothing is compiled again, and no result changes."""

import jax
import pytest

from mdlm_jax.build import build
from mdlm_jax.configs.base import KEYS
from mdlm_jax.runs.loop import train_all
from mdlm_jax.runs.programs import MOST, OF_NO_PROGRAM, Compiled, shape_of, shared
from mdlm_jax.training.sharding import RUNNERS
from mdlm_jax.training.step import make_train_step
from tests.runs.here import assert_same_state, config_of, losses_of, signals_as_before, train_here

FIRST = {"objective__name": "masked", "steps": 6, "train__checkpoint_every": 3}
# another rate, length and seed
SECOND = FIRST | {
    "steps": 9,
    "seed": 3,
    "data__seed": 4,
    "optim__lr": 3e-3,
    "train__log_every": 1,
    "eval__sequences": 16,
}
# for every key that no program depends on, a value that is not its default
OTHER = {
    **{"seed": 7, "data__seed": 8, "optim__lr": 1e-4, "optim__weight_decay": 0.3, "optim__warmup_min": 5},
    **{"optim__warmup_share": 0.2, "budget": 1e9, "budget_counter": "six_total", "steps": 77, "eval__draws": 3},
    **{"data__unique_tokens": 4096, "data__epochs": 50, "eval__sequences": 32, "train__log_every": 7},
    **{"train__validate_every": 3, "train__checkpoint_every": 4, "train__loggers": "tensorboard"},
    **{"train__checkpoint_at": "5", "branch_from": "parent@2", "start_from": "donor"},
}


@pytest.mark.slow
def test_equal_shapes_compile_once(tmp_path):
    """The second run compiles nothing, and equals the same run in a process that has trained no other."""
    programs, compiled = {}, []
    with signals_as_before():
        train_all([config_of(**FIRST)], [tmp_path / "first"], programs=programs)
        listener = lambda name, seconds, **_: compiled.append(name) if "backend_compile" in name else None  # noqa: E731
        jax.monitoring.register_event_duration_secs_listener(listener)
        (result,) = train_all([config_of(**SECOND)], [tmp_path / "second"], programs=programs)
        jax.monitoring.unregister_event_duration_listener(listener)
    assert result.status == "done" and len(programs) == 1 and not compiled
    alone = train_here(tmp_path / "alone", **SECOND)
    assert (result.loss, result.loss_standard_error) == (alone.loss, alone.loss_standard_error)
    assert losses_of(tmp_path / "second") == losses_of(tmp_path / "alone")
    assert_same_state(tmp_path / "second", tmp_path / "alone")


def lowered(config) -> str:
    """The program of the train step, as JAX hands it to the compiler."""
    built = build(config)
    step = make_train_step(built.model, built.objective, built.optimizer, built.options)
    runner = RUNNERS["jit"][0](step, built.mesh)
    state = runner.abstract(built.make_state, *built.initial)
    batches = jax.tree.map(lambda rows: rows[None], built.data.batch(0))
    return runner.steps.lower(state, batches, 1).as_text()


def test_no_program_depends_on_these_keys():
    assert {key.replace("__", ".") for key in OTHER} == OF_NO_PROGRAM <= KEYS.keys()
    assert lowered(config_of(objective__name="masked")) == lowered(config_of(objective__name="masked", **OTHER))


@pytest.mark.parametrize("key", ["optim__clip", "optim__decay", "train__batch_size", "objective__schedule"])
def test_other_programs_are_other_shapes(key):
    value = {"optim__clip": 0.5, "optim__decay": "constant", "train__batch_size": 4, "objective__schedule": "cosine"}
    assert shape_of(config_of()) != shape_of(config_of(**{key: value[key]}))


def test_oldest_program_is_forgotten():
    programs, config = {}, config_of(objective__name="masked")
    built = build(config)
    for number in [*range(1, MOST + 1), 1, MOST + 1]:
        shared(programs, config, built, number, lambda number=number: Compiled({"number": number}, *2 * [None]))
    assert [it.functions["number"] for it in programs.values()] == [*range(3, MOST + 1), 1, MOST + 1]
