"""Names of runs: short unless further keys vary, and always distinct."""

import pytest
from ml_collections import ConfigDict

from mdlm_jax.config import flatten
from mdlm_jax.configs import base
from mdlm_jax.configs.base import KEYS
from mdlm_jax.sweeps.names import run_id, run_ids, variants
from mdlm_jax.sweeps.places import LONGEST


def config(**keys) -> ConfigDict:
    made = base.get_config()
    made.update_from_flattened_dict({key.replace("__", "."): value for key, value in keys.items()})
    return made


def other_value(name):
    """A value that the key accepts and that is not its default."""
    key = KEYS[name]
    if key.choices:
        return next(choice for choice in key.choices if choice != key.default)
    if isinstance(key.default, bool):
        return not key.default
    if isinstance(key.default, str):
        return "another/one here"
    steps = (key.default + 1, key.default / 2, key.default - 1, key.default + 2) if key.default else (1, 0.25)
    return next(type(key.default)(value) for value in steps if not key.refusal(type(key.default)(value)))


@pytest.mark.parametrize("name", KEYS)
def test_any_key_makes_names_differ(name):
    value = other_value(name)
    one, other = run_ids([config(), config(**{name: value})])
    assert one != other
    assert "/" not in one + other and (one + other).isprintable() and " " not in one + other
    leaf = {"train.batch_size": "batch", "data.sequence_length": "length"}.get(name, name.rpartition(".")[2])
    if run_id(config(**{name: value})) == run_id(config()):
        assert leaf in one and leaf in other


@pytest.mark.parametrize(
    ("keys", "ends"),
    [
        (({"train__batch_size": 16}, {"train__batch_size": 32}), ("-batch16", "-batch32")),
        (({}, {"objective__schedule": "cosine"}), ("-schedule_linear", "-schedule_cosine")),
        (({}, {"model__qk_norm": True}), ("-no_qk_norm", "-qk_norm")),
        (({"optim__ema": 0.999}, {"optim__ema": 0.0}), ("-ema0.999", "-ema0.0")),
        (({}, {"data__seed": 3}), ("-data_seed0", "-data_seed3")),
        (({"optim__lr": 0.01}, {"optim__lr": 0.010000001}), ("-lr0.01", "-lr0.010000001")),
        (({"data__path": "a/b.txt"}, {"data__path": "a/c.txt"}), ("-path_a-b.txt", "-path_a-c.txt")),
        (({"optim__decay": "wsd", "seed": 3}, {"optim__ema": 0.5}), ("-seed3", "-seed0")),
    ],
)
def test_names_show_varying_keys(keys, ends):
    configs = [config(**one) for one in keys]
    for name, made, end in zip(run_ids(configs), configs, ends, strict=True):
        assert name.startswith(run_id(made).removesuffix(end)) and name.endswith(end)


def test_distinct_run_keeps_its_name():
    configs = [config(objective__name="ar"), config(), config(objective__schedule="cosine")]
    assert run_ids(configs)[0] == run_id(configs[0]) == "ar-1000steps-131k-lr0.01-seed0"


def test_similar_and_long_values_differ():
    alike = run_ids([config(data__path="a/b"), config(data__path="a-b"), config(data__path="a b")])
    assert len(set(alike)) == 3
    long = run_ids([config(data__path="x" * 400), config(data__path="x" * 401)])
    assert len(set(long)) == 2 and all(len(name.encode()) <= LONGEST for name in long)
    assert len(dict(flatten(config()))) == len(KEYS)


def test_variants_omit_lr_and_seed():
    grid = [
        config(objective__schedule=schedule, optim__lr=lr, seed=seed)
        for schedule, lr in (("linear", 0.01), ("cosine", 0.02))
        for seed in (0, 1)
    ]
    assert variants(grid) == ["masked-schedule_linear"] * 2 + ["masked-schedule_cosine"] * 2
    assert set(variants([config(optim__lr=lr) for lr in (0.1, 0.2)])) == {"masked"}
