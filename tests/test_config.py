"""Config mistakes are reported before anything is compiled: the key, the value and what would be accepted."""

import numpy as np
import pytest

from mdlm_jax.build import build, plan
from mdlm_jax.build.plan import COMPUTE_DTYPES
from mdlm_jax.build.rows import rows_of
from mdlm_jax.config import differing_keys, flatten, load_config
from mdlm_jax.configs.base import KEYS
from mdlm_jax.configs.key import NOT_ZERO
from mdlm_jax.costs.counters import COUNTERS
from mdlm_jax.costs.flops import num_parameters
from mdlm_jax.data import Example
from mdlm_jax.data.captioned import CAPTIONED
from mdlm_jax.data.chat_rows import PADDINGS
from mdlm_jax.data.sources import DOCUMENTS
from mdlm_jax.errors import UserError
from mdlm_jax.models.attention import BACKENDS
from mdlm_jax.models.transformer import REMAT_POLICIES
from mdlm_jax.objectives import OBJECTIVES
from mdlm_jax.objectives.base import loss_mask
from mdlm_jax.processes import PROCESSES
from mdlm_jax.schedules import SCHEDULES
from mdlm_jax.training.optimizer import DECAYS
from mdlm_jax.training.sharding import RUNNERS
from mdlm_jax.training.step import LOSS_PER
from tests.run_folders import ROOT

SHAPE = [
    "model.size=",
    "model.layers=2",
    "model.width=64",
    "model.heads=4",
    "model.key_value_heads=4",
    "model.mlp_width=256",
]
BASE = str(ROOT / "configs" / "base.py")


def load(*overrides):
    return load_config(BASE, [f"--config.{override}" for override in overrides])


@pytest.mark.parametrize("name", ["base", "quickstart", "smdm", "text8", "owt", "char"])
def test_every_config_loads(name):
    """Each config has exactly the keys of base."""
    config = load_config(str(ROOT / "configs" / f"{name}.py"))
    assert differing_keys(config, config) == []
    assert set(dict(flatten(config))) == set(dict(flatten(load())))


@pytest.mark.parametrize("name", KEYS)
def test_defaults_are_accepted_and_documented(name):
    key = KEYS[name]
    assert key.refusal(key.default) == "" and key.help and key.accepted
    for other, values in [*key.when.items(), *(one for when in key.choice_when.values() for one in when.items())]:
        assert all(value == NOT_ZERO or not KEYS[other].refusal(value) for value in values)


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("objective.name", OBJECTIVES),
        ("data.padding", PADDINGS),
        ("train.loss_per", LOSS_PER),
        ("objective.schedule", SCHEDULES),
        ("objective.process", PROCESSES),
        ("data.source", (*DOCUMENTS, "tokens", "chat", "markov", *CAPTIONED)),
        ("budget_counter", COUNTERS),
        ("optim.decay", DECAYS),
        ("train.runner", RUNNERS),
        ("train.remat", REMAT_POLICIES),
        ("train.attention", BACKENDS),
        ("train.compute_dtype", COMPUTE_DTYPES),
    ],
)
def test_choices_match_the_code(name, table):
    assert set(KEYS[name].choices) == set(table)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optim.lrr=3"], "config.optim.lrr is not a key; the nearest is config.optim.lr"),
        (["optim.lr=fast"], "config.optim.lr is 'fast'; accepted: float"),
        (["steps=1.5"], "config.steps is '1.5'; accepted: int"),
        (["objective.name=arr"], "config.objective.name is 'arr'; accepted: ar, any_order"),
        (["objective.schedule=square"], "config.objective.schedule is 'square'; accepted: linear, log_linear"),
        (["objective.epsilon_convention=mdlm", "objective.schedule=cosine"], "config.objective.schedule is 'cosine'"),
        (["objective.name=masked_lm", "objective.mask_rate=0.0"], "config.objective.mask_rate is 0.0"),
        (["objective.name=any_order_causal", "objective.shuffled_share=1.1"], "config.objective.shuffled_share is 1.1"),
        (["objective.shuffled_share=0.5"], "config.objective.shuffled_share"),
        ([*SHAPE, "model.heads=3"], "config.model.heads is 3; accepted: a divisor of model.width = 64"),
        (
            [*SHAPE, "model.key_value_heads=3"],
            "model.key_value_heads is 3; accepted: a divisor of model.heads = 4",
        ),
        (["model.size=7k"], "config.model.size is '7k'; accepted: 0.53k"),
        ([*SHAPE, "model.width=12"], "config.model.width is 12; accepted: a head width that is a multiple of 2"),
        ([*SHAPE, "objective.name=any_order_causal", "model.width=8"], "multiple of 4, for any_order_causal; it is 2"),
        (
            ["model.time_conditioning=True", "objective.name=ar"],
            "config.model.time_conditioning is True; accepted: False",
        ),
        (["train.batch_size=10", "train.microbatches=4"], "config.train.microbatches is 4; accepted: a divisor"),
        (["train.runner=vmap"], "config.train.runner is 'vmap'; accepted: jit, shard_map, pmap"),
        (["train.remat=some"], "config.train.remat is 'some'; accepted: none, dots, full"),
        (["train.loggers=mlflow"], "config.train.loggers is 'mlflow'; accepted: tensorboard, wandb"),
        (["budget=1e3"], "a budget of 1e+03 FLOPs is smaller than one step"),
        (["budget=1e12", "budget_counter=flops"], "config.budget_counter is 'flops'; accepted: six_nonembedding"),
        (["budget=inf"], "config.budget is inf; accepted: a finite number"),
        (["seed=-1"], "config.seed is -1; accepted: 0 or more"),
        (["optim.beta_2=1.5"], "config.optim.beta_2 is 1.5; accepted: 0 or more and below 1"),
        (["eval.draws=1"], "config.eval.draws is 1; accepted: at least 2"),
        (["model.layers=6"], "config.model.layers is 6; accepted: 0, where model.size is '131k'"),
        (["steps=0"], "config.steps is 0; accepted: at least 1"),
        (["optim.lr=-1.0"], "config.optim.lr is -1.0; accepted: above 0"),
        (["data.sequence_length=0"], "config.data.sequence_length is 0; accepted: at least 1"),
        (
            ["data.sequence_length=100000000"],
            "config.data.sequence_length is 100000000; accepted: at least 1 and at most",
        ),
        (["objective.epsilon=-1"], "config.objective.epsilon is -1.0; accepted: above 0 and below 0.5"),
        (["objective.power=0"], "config.objective.power is 0.0; accepted: above 0 and at most 6"),
        (["objective.gamma=3"], "config.objective.gamma is 3.0; accepted: above 0 and at most 2"),
        (["objective.uniform_share=1"], "config.objective.uniform_share is 1.0; accepted: above 0 and below 1"),
        (["objective.block_high=2"], "config.objective.block_high is 2.0; accepted: above 0 and at most 1"),
        (["objective.drop_prompt=-0.5"], "config.objective.drop_prompt is -0.5; accepted: 0 or more and below 1"),
        (["objective.embedding_width=0"], "config.objective.embedding_width is 0; accepted: at least 1"),
        (["optim.epsilon=-1"], "config.optim.epsilon is -1.0; accepted: above 0 and at most 1"),
        (["optim.epsilon=1e-60"], "config.optim.epsilon is 1e-60; accepted: 0, or 1.2e-38 or more"),
        (["optim.final=5"], "config.optim.final is 5.0; accepted: 0 or more and at most 1"),
        (["optim.warmup_share=7"], "config.optim.warmup_share is 7.0; accepted: 0 or more and at most 1"),
        (["optim.warmup_min=-1"], "config.optim.warmup_min is -1; accepted: 0 or more"),
        (["optim.rewind_steps=0"], "config.optim.rewind_steps is 0; accepted: at least 1"),
        (["optim.max_rewinds=-1"], "config.optim.max_rewinds is -1; accepted: 0 or more"),
        (["optim.beta_1=0.999999999"], "config.optim.beta_1 is 0.999999999; accepted: 0 or more and below 1"),
        (["optim.clip=0"], "config.optim.clip is 0.0; accepted: above 0"),
        (["optim.weight_decay=-0.1"], "config.optim.weight_decay is -0.1; accepted: 0 or more"),
        (["train.validate_every=-1"], "config.train.validate_every is -1; accepted: 0 or more"),
        (["train.checkpoint_every=-1"], "config.train.checkpoint_every is -1; accepted: 0 or more"),
        (["train.mesh_fsdp=0"], "config.train.mesh_fsdp is 0; accepted: at least 1, or -1"),
        (["train.mesh_data=0"], "config.train.mesh_data is 0; accepted: at least 1"),
        (["model.rope_base=0.5"], "config.model.rope_base is 0.5; accepted: at least 1, or 0"),
        (["model.norm_epsilon=0"], "config.model.norm_epsilon is 0.0; accepted: above 0 and at most 1"),
        (["model.vocab_size=-5"], "config.model.vocab_size is -5; accepted: 0 or more"),
        (["model.time_width=0"], "config.model.time_width is 0; accepted: at least 1"),
        (["model.layers=-1"], "config.model.layers is -1; accepted: 0 or more"),
        (["model.dropout=1"], "config.model.dropout is 1.0; accepted: 0 or more and below 1"),
        (["seed=4294967296"], "config.seed is 4294967296; accepted: 0 or more and at most 4,294,967,295"),
        (["data.seed=-1"], "config.data.seed is -1; accepted: 0 or more"),
        (["data.epochs=-1"], "config.data.epochs is -1; accepted: 0 or more"),
        (["data.unique_tokens=-1"], "config.data.unique_tokens is -1; accepted: 0 or more"),
        (["data.random_length_rate=1.5"], "config.data.random_length_rate is 1.5; accepted: 0 or more and at most 1"),
        (["eval.batch_size=0"], "config.eval.batch_size is 0; accepted: at least 1"),
        (
            ["data.source=markov", "data.path=vocab=1000000000,concentration=0.3"],
            "accepted: at most 2,097,152 tokens; it has 1,000,000,000",
        ),
        (["steps"], "--config.steps: lacks a value; accepted: --config.steps=1000"),
    ],
)
def test_invalid_value_gives_one_line(overrides, message):
    with pytest.raises(UserError) as refused:
        plan(load(*overrides))
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_unknown_key_in_file_is_refused(tmp_path):
    (tmp_path / "configs").mkdir()
    path = tmp_path / "configs" / "mine.py"
    path.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom mdlm_jax.configs import base\n"
        "def get_config():\n    config = base.get_config()\n    config.optim.warmup_mim = 5\n    return config\n"
    )
    with pytest.raises(UserError, match="warmup_mim"):
        load_config(str(path))


@pytest.mark.parametrize("vocab_size", [4, 7])
def test_too_small_vocabulary_is_refused(vocab_size):
    overrides = ["data.source=markov", "data.path=vocab=8,concentration=0.3", f"model.vocab_size={vocab_size}"]
    with pytest.raises(UserError, match=f"config.model.vocab_size is {vocab_size}; accepted: 0, or at least the 8"):
        build(load(*overrides))


def test_missing_file_is_named():
    with pytest.raises(UserError, match="configs/none.py: no such file"):
        load_config("configs/none.py")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return None", r"get_config\(\) returns None; accepted: a ConfigDict"),
        ("return {}", r"get_config\(\) returns \{\}; accepted"),
        ("return 1 / 0", "line 2: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "line 2: SystemExit: 3"),
        ("from ml_collections import ConfigDict; return ConfigDict({})", "config.seed is missing"),
        ("yield", r"get_config\(\) returns <generator"),
    ],
)
def test_invalid_config_file_is_refused(tmp_path, body, message):
    (tmp_path / "mine.py").write_text(f"def get_config():\n    {body}\n")
    with pytest.raises(UserError, match=message):
        load_config(str(tmp_path / "mine.py"))


def test_async_config_file_is_refused(tmp_path):
    (tmp_path / "mine.py").write_text("async def get_config():\n    pass\n")
    with pytest.raises(UserError, match="mine.py: get_config is async; accepted: a plain function"):
        load_config(str(tmp_path / "mine.py"))


def test_execution_keys_do_not_identify_runs():
    other = load("train.remat=full", "train.mesh_fsdp=4", "eval.batch_size=7", "optim.lr=0.003")
    assert differing_keys(load(), other) == ["optim.lr: 0.01 -> 0.003"]
    assert len(differing_keys(load(), other, execution=True)) == 4
    here, there = load("data.source=tokens", "data.path=novels"), load("data.source=tokens", "data.path=here/novels")
    assert differing_keys(here, there, paths=False) == [] != differing_keys(here, there)


def test_preset_by_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert load_config("quickstart") == load_config(str(ROOT / "configs" / "quickstart.py"))
    with pytest.raises(UserError, match="--config=quick: no such file; accepted: .* base, char"):
        load_config("quick")


def test_prompt_tokens_have_no_loss():
    for name in ("ar", "masked"):
        rows = rows_of(load(f"objective.name={name}", "data.prompt_tokens=5", "data.sequence_length=8"))
        row = Example(np.zeros(8, np.int32), np.ones(8, np.int32), np.zeros(8, bool))
        assert loss_mask(rows(row)).tolist() == [False] * 5 + [True] * 3


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["data.prompt_tokens=64"], "data.prompt_tokens"),
        (["objective.drop_prompt=0.1"], "data.prompt_tokens is 0"),
        (["objective.drop_prompt=1.0", "data.prompt_tokens=4"], "below 1"),
        (["objective.drop_prompt=0.1", "data.prompt_tokens=4", "objective.name=ar"], "the whole row"),
        (["objective.drop_prompt=0.1", "data.prompt_tokens=4", "objective.block_size=4"], "with blocks"),
        (["objective.shift=True"], "objective.shift is True; accepted: False without a prompt"),
        (["objective.shift=True", "data.prompt_tokens=1", "objective.block_size=4"], "have objective.block_shift"),
        (
            ["objective.anneal_steps=9", "objective.block_size=4"],
            "objective.anneal_steps is 9; accepted: 0 with blocks",
        ),
        (
            ["objective.name=masked_plain", "objective.context_rate=0.3", "objective.block_size=4"],
            "objective.context_rate is 0.3; accepted: 0 with blocks",
        ),
    ],
)
def test_invalid_prompts_are_refused(keys, said):
    with pytest.raises(UserError, match=said):
        plan(load(*keys))


def test_extra_token_equalises_token_counts():
    """Rows of L + 1: `ar` reads the first L tokens and has a loss on the last L; `masked` sees the first L."""
    for name in ("ar", "masked"):
        planned = plan(load(f"objective.name={name}", "data.extra_token=True", "data.sequence_length=32"))
        assert planned.tokens_per_step == 64 * 32
        assert (
            planned.flops_per_step.six_nonembedding == 6 * 32 * 64 * num_parameters(planned.architecture).non_embedding
        )


@pytest.mark.parametrize(
    ("size", "budget", "steps"), [("170M", 6e18, 11_226), ("6M", 1e19, 505_007), ("2121M", 1e20, 14_985)]
)
def test_smdm_budgets_give_smdm_steps(size, budget, steps):
    config = load_config(str(ROOT / "configs" / "smdm.py"))
    config.model.size, config.budget, config.data.source = size, budget, "stdlib"
    assert plan(config).steps == steps
