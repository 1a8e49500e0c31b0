"""Parameters that are not trained stay as they are, bit by bit, and cost no optimiser state."""

import jax
import numpy as np
import optax
import pytest

import mdlm_jax as mj
from mdlm_jax.config import load_config
from mdlm_jax.errors import UserError
from mdlm_jax.training.frozen import name_of

SMALL = {
    "model.size": "",
    "model.layers": 2,
    "model.width": 16,
    "model.heads": 2,
    "model.key_value_heads": 2,
    "model.mlp_width": 16,
    "data.source": "markov",
    "data.path": "vocab=8,concentration=0.3",
    "data.sequence_length": 8,
    "train.batch_size": 4,
    "objective.name": "ar",
    "optim.lr": 0.1,
}


def built_from(**keys):
    return mj.build(load_config("base", [f"--config.{key}={value}" for key, value in (SMALL | keys).items()]))


def stepped(built, steps=2):
    """(names of parameters that have changed, names of all, last state)."""
    step = jax.jit(mj.make_train_step(built.model, built.objective, built.optimizer, built.options))
    first = state = built.make_state(*built.initial)
    for number in range(steps):
        state, metrics = step(state, built.data.batch(number))
    assert np.isfinite(metrics["loss"])
    pairs = zip(jax.tree.leaves_with_path(first.params), jax.tree.leaves(state.params), strict=True)
    changed = {name_of(path): bool((old != new).any()) for (path, old), new in pairs}
    return {name for name, moved in changed.items() if moved}, set(changed), state


def moments(state):
    """Entries of the first moments."""
    adam = [
        part
        for part in jax.tree.leaves(state.opt_state, is_leaf=lambda x: isinstance(x, optax.ScaleByAdamState))
        if isinstance(part, optax.ScaleByAdamState)
    ]
    (only,) = adam
    return sum(leaf.size for leaf in jax.tree.leaves(only.mu))


def test_frozen_by_pattern():
    changed, names, state = stepped(
        built_from(**{"optim.freeze": "ends/*,blocks/*norm*", "optim.decay_everything": True})
    )
    assert changed == {name for name in names if name.startswith("blocks/") and "norm" not in name}
    sizes = {name_of(path): leaf.size for path, leaf in jax.tree.leaves_with_path(state.params)}
    assert moments(state) == sum(sizes[name] for name in changed)


def test_adapters_alone_are_trained():
    keys = {"model.lora_rank": 2, "model.lora_matrices": "query,up"}
    changed, names, state = stepped(built_from(**keys))
    assert changed == {name for name in names if name.startswith("lora/")} and len(changed) == 4
    assert moments(state) == sum(leaf.size for leaf in jax.tree.leaves(state.params["lora"]))
    ends_too, _, _ = stepped(built_from(**keys | {"optim.freeze": "blocks/*"}))
    assert {name.split("/")[0] for name in ends_too} == {"lora", "ends"}


def test_frozen_parameters_count_in_no_gradient_norm():
    """The gradient of what is trained is that of a run that trains all."""
    whole, part = built_from(), built_from(**{"optim.freeze": "ends/*"})
    norms = []
    for built in (whole, part):
        step = jax.jit(mj.make_train_step(built.model, built.objective, built.optimizer, built.options))
        _, metrics = step(built.make_state(*built.initial), built.data.batch(0))
        norms.append(float(metrics["gradient_norm"]))
    assert 0 < norms[1] < norms[0]


def test_patterns_without_meaning_are_refused():
    for patterns, message in (("ends/*,block/*", "has 'block/\\*'; accepted"), ("*", "leave something to train")):
        with pytest.raises(UserError, match=message):
            built_from(**{"optim.freeze": patterns})
