"""The door between config and code: every check of a config, and what is built from it."""

import json
import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mdlm_jax.build.described import objective_factory
from mdlm_jax.build.mesh import check_mesh
from mdlm_jax.build.objective import objective_of, objective_source_digest
from mdlm_jax.build.rows import blank_row, rows_of, with_rows
from mdlm_jax.config import choose, flatten, refuse
from mdlm_jax.costs.flops import COUNTERS, Flops, attended_pairs, flops_per_sequence, steps_for_budget
from mdlm_jax.data.markov import parse_markov
from mdlm_jax.data.pipeline import Data, open_data
from mdlm_jax.data.tokenizer import open_tokenizer
from mdlm_jax.models import ladder
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.attention import BACKENDS
from mdlm_jax.models.layout import AXES
from mdlm_jax.models.transformer import REMAT_POLICIES, Execution, Model, transformer
from mdlm_jax.objectives import Objective
from mdlm_jax.training.optimizer import DECAYS, adamw, hyperparameters
from mdlm_jax.training.sharding import RUNNERS, make_mesh, share_of_rows
from mdlm_jax.training.step import State, StepOptions, initial_state

COMPUTE_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class Plan(NamedTuple):
    """What a config costs, known before any data is read or anything compiled."""

    architecture: Architecture
    objective: Objective
    steps: int
    warmup_steps: int
    tokens_per_step: int
    flops_per_step: Flops
    total: Flops  # of the whole run
    positions: int  # of a view
    scored: int  # of these, those with logits


class Build(NamedTuple):
    plan: Plan
    model: Model
    reader: Model  # for validation: without 8-bit products, whose scales are of all rows that are read together
    objective: Objective
    optimizer: optax.GradientTransformation
    options: StepOptions
    data: Data
    mesh: Mesh
    make_state: Callable[..., State]
    initial: tuple  # its arguments


def plan(config: ConfigDict) -> Plan:
    """Checks every key that needs no data and counts steps and FLOPs. Raises UserError naming the key at fault."""
    _check_execution(config)
    vocab_size = _vocabulary_size(config)
    told = json.dumps({"objective": config.objective.to_dict(), "data": config.data.to_dict()})
    factory, source = objective_factory(config.objective.name), objective_source_digest(config)
    look = _look(told, factory, source, vocab_size)
    objective, length = look.objective, config.data.sequence_length
    architecture = _architecture(config, objective, vocab_size)
    per_sequence = flops_per_sequence(
        architecture,
        sequence_length=length,
        pairs=look.pairs,
        positions=look.positions,
        scored=look.scored,
        noise_levels=look.noise_levels,
        views=objective.views,
    )
    batch_size = config.train.batch_size
    per_step = Flops(*(batch_size * count for count in per_sequence))
    steps = config.steps
    if config.budget:
        steps = steps_for_budget(config.budget, getattr(per_step, choose(config, "budget_counter", COUNTERS)))
    elif steps < 1:
        refuse("steps", steps, "at least 1, or a budget in FLOPs")
    total = Flops(*(steps * count for count in per_step))
    warmup = warmup_steps(config, steps)
    tokens_per_step = batch_size * length
    return Plan(architecture, objective, steps, warmup, tokens_per_step, per_step, total, look.positions, look.scored)


class _Look(NamedTuple):
    """What an objective makes of a row, whatever the network."""

    objective: Objective
    positions: int
    scored: int
    noise_levels: int
    pairs: int  # of positions that attend


@lru_cache(maxsize=64)
def _look(told: str, factory: Callable, source: str, vocab_size: int) -> _Look:
    """Of the keys `objective` and `data` of a config, as JSON: a sweep has a few such, and many sizes and budgets.

    `factory` and the digest `source` of a user's own code are part of the cache key: a name may change its meaning.
    """
    config = ConfigDict(json.loads(told))
    objective = objective_of(config, mask_id=vocab_size)
    row = rows_of(config)(blank_row(config))
    view = jax.eval_shape(
        lambda key, row: objective.view(objective.init(key), key, row, jnp.float32(0)), jax.random.key(0), row
    )
    positions = view.tokens.shape[-1]
    return _Look(
        objective, positions, view.targets.shape[-1], view.t.shape[-1], attended_pairs(objective.mask, positions)
    )


def warmup_steps(config: ConfigDict, steps: int) -> int:
    """Steps of linear warm-up in a run of `steps`: at most half of them."""
    return min(max(config.optim.warmup_min, int(config.optim.warmup_share * steps)), steps // 2)


def build(config: ConfigDict, devices: Sequence[jax.Device] | None = None) -> Build:
    """(model, objective, optimiser, data, mesh) of a config. Below this, plain arguments. Raises UserError."""
    planned = plan(config)
    mesh = make_mesh(devices or jax.devices(), **{axis: config.train[f"mesh_{axis}"] for axis in AXES})
    check_mesh(config, planned.architecture, mesh, positions=planned.positions, scored=planned.scored)
    process, processes = share_of_rows(mesh)
    data = open_data(
        **{key: value for key, value in config.data.items() if key != "prompt_tokens"},  # `rows_of` reads that one
        batch_size=config.train.batch_size,
        validation_rows=config.eval.sequences,
        process_index=process,
        process_count=processes,
    )
    if data.max_steps is not None and data.max_steps < planned.steps:
        refuse(
            "data.epochs", config.data.epochs, f"more: {planned.steps} steps are asked for, it ends at {data.max_steps}"
        )
    if data.vocab_size > planned.architecture.vocab_size:
        refuse("model.vocab_size", config.model.vocab_size, f"0, or at least the {data.vocab_size} tokens of the data")
    if config.data.extra_token or config.data.prompt_tokens:
        data = with_rows(data, rows_of(config))
    optim = config.optim
    optimizer = adamw(
        decay=optim.decay,
        final=optim.final,
        beta_1=optim.beta_1,
        beta_2=optim.beta_2,
        epsilon=optim.epsilon,
        clip=optim.clip,
        decay_everything=optim.decay_everything,
    )
    execution = Execution(
        compute_dtype=COMPUTE_DTYPES[config.train.compute_dtype],
        float8=config.train.float8,
        scan_layers=config.train.scan_layers,
        remat=config.train.remat,
        attention=config.train.attention,
        use_segments=config.data.keep_documents or config.data.random_length_rate > 0,
        mesh=mesh if config.train.runner == "jit" and mesh.size > 1 else None,
    )
    options = StepOptions(
        batch_size=config.train.batch_size,
        microbatches=config.train.microbatches,
        loss_chunk=config.train.loss_chunk,
        scored_only=config.train.scored_only,
        ema_decay=optim.ema,
        dropout=config.model.dropout > 0,
        spike_deviations=optim.spike_deviations,
        skip_bad=optim.on_nonfinite == "skip",
    )
    model = transformer(planned.architecture, execution)
    reader = transformer(planned.architecture, execution._replace(float8=False)) if execution.float8 else model
    numbers = hyperparameters(optim.lr, optim.weight_decay, planned.warmup_steps, planned.steps)
    history = optim.spike_deviations > 0
    make_state = partial(initial_state, model, planned.objective, optimizer, optim.ema, history=history)
    initial = (jnp.uint32(config.seed), numbers)
    return Build(planned, model, reader, planned.objective, optimizer, options, data, mesh, make_state, initial)


def _vocabulary_size(config: ConfigDict) -> int:
    """V, as told or from the tokenizer or the source alone: a plan needs no corpus where it is told."""
    if config.model.vocab_size:
        return config.model.vocab_size
    if config.data.source == "markov":
        return parse_markov(config.data.path)[0]
    return open_tokenizer(config.data.tokenizer).vocab_size


def _architecture(config: ConfigDict, objective: Objective, vocab_size: int) -> Architecture:
    m = config.model
    choose(config, "model.mlp", ("swiglu", "gelu"))
    choose(config, "model.norm", ("rmsnorm", "layernorm"))
    shape = ("layers", "width", "heads", "key_value_heads", "mlp_width")
    fields = {"input_width": objective.inputs}
    fields |= {name: m[name] for name in Architecture._fields if name not in ("vocab_size", "input_width", *shape)}
    if m.size:
        choose(config, "model.size", ladder.SMALL | ladder.SMDM)
        told = [name for name in shape if m[name]]
        if told:
            refuse(f"model.{told[0]}", m[told[0]], f"0, where model.size is {m.size!r}, or another with model.size=''")
        a = ladder.architecture(m.size, vocab_size, **fields)
    else:
        a = Architecture(vocab_size, **{name: m[name] for name in shape}, **fields)
    for name in shape:
        if getattr(a, name) < 1:
            refuse(f"model.{name}", getattr(a, name), "at least 1")
    if a.width % a.heads:
        refuse("model.heads", a.heads, f"a divisor of model.width = {a.width}")
    if a.heads % a.key_value_heads:
        refuse("model.key_value_heads", a.key_value_heads, f"a divisor of model.heads = {a.heads}")
    if a.head_width % (2 * objective.coordinates):
        accepted = f"a head width that is a multiple of {2 * objective.coordinates}, for {config.objective.name}"
        refuse("model.width", a.width, f"{accepted}; it is {a.head_width} with {a.heads} heads")
    if not 0 <= a.dropout < 1:
        refuse("model.dropout", a.dropout, "0 or more and below 1")
    if a.tied_head and a.input_width:
        refuse("model.tied_head", True, f"False for {config.objective.name}, whose network embeds no tokens")
    if objective.timed:
        return a._replace(time_conditioning=True)
    if a.time_conditioning and (config.objective.name != "masked" or config.objective.schedule != "linear"):
        refuse("model.time_conditioning", True, "False, unless the objective is masked with the linear schedule")
    return a


def _check_execution(config: ConfigDict) -> None:
    train, optim = config.train, config.optim
    choose(config, "train.runner", RUNNERS)
    choose(config, "train.compute_dtype", COMPUTE_DTYPES)
    choose(config, "train.remat", REMAT_POLICIES)
    choose(config, "train.attention", BACKENDS)
    choose(config, "optim.decay", DECAYS)
    choose(config, "optim.on_nonfinite", ("stop", "skip", "rewind"))
    for key, value in flatten(config):
        if isinstance(value, float) and not math.isfinite(value):
            refuse(key, value, "a finite number")
    if config.seed < 0 or config.data.seed < 0:
        refuse("seed" if config.seed < 0 else "data.seed", min(config.seed, config.data.seed), "0 or more")
    for key in ("batch_size", "microbatches", "loss_chunk", "log_every"):
        if train[key] < 1:
            refuse(f"train.{key}", train[key], "at least 1")
    for key, least in (("sequences", 1), ("draws", 2), ("batch_size", 1)):
        if config.eval[key] < least:
            refuse(f"eval.{key}", config.eval[key], f"at least {least}")
    if train.batch_size % train.microbatches:
        refuse("train.microbatches", train.microbatches, f"a divisor of train.batch_size = {train.batch_size}")
    for key in ("ema", "beta_1", "beta_2"):
        if not 0 <= optim[key] < 1:
            refuse(f"optim.{key}", optim[key], "0 or more and below 1")
    for key in ("weight_decay", "spike_deviations", "rewind_steps", "max_rewinds"):
        if optim[key] < 0:
            refuse(f"optim.{key}", optim[key], "0 or more")
    for key in ("lr", "clip"):
        if not optim[key] > 0:
            refuse(f"optim.{key}", optim[key], "above 0")
    if config.budget < 0:
        refuse("budget", config.budget, "FLOPs, or 0 where `steps` says how long")
    loggers = set(filter(None, train.loggers.split(",")))
    if loggers - {"tensorboard", "wandb"}:
        refuse("train.loggers", train.loggers, "tensorboard, wandb, both by a comma, or nothing")
