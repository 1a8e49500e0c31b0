"""The steps, FLOPs and shapes of a config, computed before any data is read or anything is compiled."""

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mdlm_jax.build.described import objective_factory
from mdlm_jax.build.objective import objective_of, objective_source_digest, refuse_unread_by
from mdlm_jax.build.rows import blank_row, rows_of
from mdlm_jax.config import validate
from mdlm_jax.configs.base import KEYS
from mdlm_jax.configs.checks import refuse
from mdlm_jax.configs.relations import SHAPE, refuse_contradictions
from mdlm_jax.costs.counters import Flops
from mdlm_jax.costs.flops import attended_pairs, flops_per_sequence, steps_for_budget
from mdlm_jax.data.captioned import CAPTIONED, layout_of
from mdlm_jax.data.markov import parse_markov
from mdlm_jax.data.tokenizer import open_tokenizer
from mdlm_jax.errors import UserError
from mdlm_jax.models import ladder
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.rope_scaling import parse_scaling
from mdlm_jax.objectives import Objective
from mdlm_jax.objectives.base import spans
from mdlm_jax.plugins import is_plugin

COMPUTE_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class Plan(NamedTuple):
    """What a config trains and what it costs."""

    architecture: Architecture
    objective: Objective
    steps: int
    warmup_steps: int
    tokens_per_step: int
    flops_per_step: Flops
    total: Flops  # of the whole run
    positions: int  # of a view
    scored: int  # positions of a view that have logits


AT_ONE_LEVEL = ("masked_lm", "unified")  # reported by a bound whose noise level is not that of training


def plan(config: ConfigDict, vocab_size: int | None = None) -> Plan:
    """Checks every key that needs no data, and counts steps and FLOPs.

    Args:
        config: A config with the keys of configs/base.py.
        vocab_size: V, where it is known; by default it is that of the config's tokenizer or source.

    Raises:
        UserError: A key has an invalid value; the message names the key.
    """
    validate(config)
    if is_plugin(config.objective.name):
        refuse_unread_by(config.objective.name, config)
    refuse_contradictions(config)
    vocab_size = vocab_size or _vocab_size(config)
    keys = json.dumps({"objective": config.objective.to_dict(), "data": config.data.to_dict()})
    factory, source = objective_factory(config.objective.name), objective_source_digest(config)
    shape = _view_shape(keys, factory, source, vocab_size)
    objective, length = shape.objective, config.data.sequence_length
    architecture = _architecture(config, objective, vocab_size)
    per_sequence = flops_per_sequence(
        architecture,
        sequence_length=length,
        pairs=shape.pairs,
        positions=shape.positions,
        scored=shape.scored,
        noise_levels=shape.noise_levels,
        views=objective.views,
        logits=shape.logits,
    )
    batch_size = config.train.batch_size
    per_step = Flops(*(batch_size * count for count in per_sequence))
    steps = config.steps
    if config.budget:
        steps = steps_for_budget(config.budget, getattr(per_step, config.budget_counter))
    total = Flops(*(steps * count for count in per_step))
    warmup = warmup_steps(config, steps)
    tokens_per_step = batch_size * length
    return Plan(architecture, objective, steps, warmup, tokens_per_step, per_step, total, shape.positions, shape.scored)


def warmup_steps(config: ConfigDict, steps: int) -> int:
    """Steps of linear warm-up in a run of `steps`: at most half of them."""
    return min(asked_warmup(config, steps), steps // 2)


def asked_warmup(config: ConfigDict, steps: int) -> int:
    """Steps of linear warm-up that the config asks for in a run of `steps`, which may be more than it has."""
    return max(config.optim.warmup_min, int(config.optim.warmup_share * steps))


class _ViewShape(NamedTuple):
    """An objective and the sizes of its view of a row, which do not depend on the network."""

    objective: Objective
    positions: int
    scored: int
    noise_levels: int
    pairs: int  # of positions that attend to each other
    logits: int


@lru_cache(maxsize=64)  # a sweep has many sizes and budgets, but few objectives
def _view_shape(keys: str, factory: Callable, source: str, vocab_size: int) -> _ViewShape:
    """Traces one view. `keys` are `objective` and `data` of a config, as JSON.

    `factory` and the digest `source` of a user's own code are part of the cache key: a name may change its meaning.
    """
    config = ConfigDict(json.loads(keys))
    objective = objective_of(config, mask_id=vocab_size)
    row = rows_of(config)(blank_row(config))
    view = jax.eval_shape(
        lambda key, row: objective.view(objective.init(key), key, row, jnp.float32(0)), jax.random.key(0), row
    )
    positions = view.tokens.shape[-1]
    pairs = attended_pairs(objective.mask, positions)
    scored = view.targets.shape[-1]
    logits = sum((stop - start) * (ids[1] - ids[0]) for start, stop, ids in spans(objective.parts, scored))
    return _ViewShape(objective, positions, scored, view.t.shape[-1], pairs, logits or scored * vocab_size)


def _vocab_size(config: ConfigDict) -> int:
    """V as configured, or from the tokenizer or source alone: a plan reads no corpus."""
    if config.model.vocab_size:
        return config.model.vocab_size
    key = "path" if config.data.source in ("markov", *CAPTIONED) else "tokenizer"
    if config.data.source in CAPTIONED:
        size = layout_of(config.data.source, config.data.path).vocab_size
    else:
        size = parse_markov(config.data.path)[0] if key == "path" else open_tokenizer(config.data.tokenizer).vocab_size
    most = KEYS["model.vocab_size"].at_most
    if most is not None and size > most:
        refuse(f"data.{key}", config.data[key], f"at most {most:,} tokens; it has {size:,}")
    return size


def _architecture(config: ConfigDict, objective: Objective, vocab_size: int) -> Architecture:
    m = config.model
    fields: dict[str, Any] = {"input_width": objective.inputs, "text_length": 0, "image_columns": 0}
    if config.data.source in CAPTIONED:
        layout = layout_of(config.data.source, config.data.path)
        fields |= {"text_length": layout.text_length, "image_columns": layout.columns}
    fields |= {name: m[name] for name in Architecture._fields if name not in ("vocab_size", *fields, *SHAPE)}
    if m.size:
        a = ladder.architecture(m.size, vocab_size, **fields)
    else:
        a = Architecture(vocab_size, **{name: m[name] for name in SHAPE}, **fields)
    by_grid = a.image_rope == "2d"
    if by_grid and (objective.coordinates > 1 or not a.rope_base):
        instead = "model.rope_base of 0" if not a.rope_base else f"{config.objective.name}, which has two coordinates"
        refuse("model.image_rope", a.image_rope, f"1d with {instead}")
    coordinates = 2 if by_grid else objective.coordinates
    if a.head_width % (2 * coordinates):
        reader = "model.image_rope of 2d" if by_grid else config.objective.name
        accepted = f"a head width that is a multiple of {2 * coordinates}, for {reader}"
        refuse("model.width", a.width, f"{accepted}; it is {a.head_width} with {a.heads} heads")
    if a.rope_scaling:
        try:
            parse_scaling(a.rope_scaling)
        except UserError as error:
            raise UserError(f"config.model.{error}") from error
    read = config.data.sequence_length + config.data.extra_token
    if a.learned_positions and (a.learned_positions < read or objective.coordinates > 1):
        accepted = f"0, or at least the {read} positions that are read, for an objective of one coordinate"
        refuse("model.learned_positions", a.learned_positions, accepted)
    if a.tied_head and a.input_width:
        refuse("model.tied_head", True, f"False for {config.objective.name}, whose network embeds no tokens")
    if objective.timed:
        return a._replace(time_conditioning=True)
    if a.time_conditioning and (objective.parameterization is None or config.objective.name in AT_ONE_LEVEL):
        refuse("model.time_conditioning", True, f"False: {config.objective.name} trains at one noise level")
    return a
