"""Memory in closed form, against what XLA reserves for the compiled step."""

import json
import math

import jax
import pytest

from benchmarks.ahead_of_time import Case, config_of, stored
from mdlm_jax.build import build
from mdlm_jax.configs import base
from mdlm_jax.costs.prices import parse_hardware
from mdlm_jax.sweeps.plan import memory_of, plan_runs
from mdlm_jax.training.dispatch import stacked
from mdlm_jax.training.sharding import RUNNERS
from mdlm_jax.training.step import make_train_step


def config(**keys):
    made = base.get_config()
    made.data.source, made.data.path = "markov", "vocab=8,concentration=0.3"
    made.model.size, made.model.vocab_size, made.data.sequence_length = "3.5M", 2048, 128
    made.train.scan_layers, made.train.batch_size, made.train.loss_chunk = True, 16, 32
    made.update_from_flattened_dict({key.replace("__", "."): value for key, value in keys.items()})
    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [
        {"train__remat": "none"},
        {"train__remat": "none", "data__sequence_length": 512, "train__batch_size": 4},
        {"train__remat": "dots"},
        {"train__remat": "full", "train__batch_size": 64},
        {"train__remat": "none", "train__batch_size": 64, "train__microbatches": 4},
        {"train__remat": "dots", "objective__block_size": 16},
        {"model__size": "", "model__layers": 4, "model__width": 128, "model__heads": 2}
        | {"model__key_value_heads": 2, "model__mlp_width": 320, "train__remat": "none"},
    ],
    ids=["none", "none, long", "dots", "full", "accumulated", "blocks", "narrow MLP"],
)
def test_memory_matches_what_xla_reserves(keys):
    asked = config(**keys)
    built = build(asked)
    make_runner, axis_name = RUNNERS["jit"]
    step = make_train_step(built.model, built.objective, built.optimizer, built.options, axis_name)
    runner = make_runner(step, built.mesh)
    state = runner.abstract(built.make_state, *built.initial)
    reserved = runner.steps.lower(state, stacked([built.data.batch(0)]), 1).compile().memory_analysis()
    measured = reserved.argument_size_in_bytes + reserved.temp_size_in_bytes
    (planned,) = plan_runs([asked])
    memory = memory_of(planned, 1)
    assert 1 <= memory.total / measured < 1.2  # never too little, and a fifth too much at most
    kept = 12 / 16 * memory.state  # parameters and two moments; the gradient is temporary
    assert kept == pytest.approx(reserved.argument_size_in_bytes, rel=2e-3)


@pytest.mark.parametrize("keys", [{}, {"optim__name": "lion"}, {"optim__name": "muon", "optim__ema": 0.9}])
def test_state(keys):
    """All but the gradient is what the train step keeps; a few counters aside."""
    asked = config(**keys)
    built = build(asked)
    kept = jax.tree.leaves(jax.eval_shape(built.make_state, *built.initial))
    (planned,) = plan_runs([asked])
    gradient = 4 * planned.parameters.total
    counted = sum(leaf.size * leaf.dtype.itemsize for leaf in kept if leaf.size > 99)
    assert memory_of(planned, 1).state - gradient == counted


def test_memory_splits_over_devices():
    (planned,) = plan_runs([config(train__compute_dtype="bfloat16", train__remat="full", optim__ema=0.999)])
    one, four = memory_of(planned, 1), memory_of(planned, 4)
    parameters = planned.parameters.total
    assert one.state == 20 * parameters and one.gathered == 0
    assert four.state == 5 * parameters
    a_layer, ends = planned.parameters.non_embedding / 6, parameters - planned.parameters.non_embedding
    assert four.gathered == pytest.approx(6 * a_layer + 8 * ends)
    assert four.activations == one.activations / 4 and four.logits == one.logits / 4
    positions = {"train__mesh_sequence": 2, "train__mesh_tensor": 2}
    (parts,) = plan_runs(
        [
            config(
                train__compute_dtype="bfloat16", train__remat="full", optim__ema=0.999, train__batch_size=1, **positions
            )
        ]
    )
    split = memory_of(parts, 4)  # one row instead of sixteen, a fourth of it on each device
    assert split.state == four.state and split.gathered == pytest.approx(6 * a_layer / 2 + 8 * ends)
    assert split.activations == four.activations / 16 and split.logits == four.logits / 16
    (copied,) = plan_runs([config(train__mesh_data=4, train__mesh_fsdp=1)])
    assert memory_of(copied, 4).state == 16 * parameters
    assert parse_hardware("h200:8").memory == 141e9


def test_memory_matches_compiled_pod_programs():
    """The programs are those of `benchmarks/ahead_of_time.py`; cuDNN's attention takes less than planned."""
    programs = stored()
    assert len(programs) > 50
    for name, found in programs.items():
        case = Case(*json.loads(name))
        (planned,) = plan_runs([config_of(case)])
        reserved = found["state_bytes"] + found["temporary_bytes"]
        most = 2.3 if case.attention == "library" else 1.3
        assert 0.85 < memory_of(planned, math.prod(case.mesh)).total / reserved < most, name
