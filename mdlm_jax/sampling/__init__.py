"""Every way to draw text from a trained network, behind one function."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from mdlm_jax.models.transformer import Model
from mdlm_jax.objectives.predictions import predicts_masked
from mdlm_jax.sampling.ancestral import Ancestral, FirstHitting
from mdlm_jax.sampling.autoregressive import Autoregressive, Ordered
from mdlm_jax.sampling.base import BUCKET, Context, Request, Sampler, Trace, Trained, left_padded
from mdlm_jax.sampling.blocks import in_blocks
from mdlm_jax.sampling.checks import check
from mdlm_jax.sampling.confidence import Confidence
from mdlm_jax.sampling.gaussian import Gaussian
from mdlm_jax.sampling.guidance import Weight, guided_sides, readings_without
from mdlm_jax.sampling.network import Network, logits_of, masked_share, positions_of, read, uniform_at
from mdlm_jax.sampling.remasking import Remasking
from mdlm_jax.sampling.reverse import Metropolis, PredictorCorrector, Reverse
from mdlm_jax.sampling.rows import block_rows, rows_back
from mdlm_jax.sampling.similarity import key_value_similarity
from mdlm_jax.sampling.steps import euler_distribution, tau_leaping_distribution, tweedie_distribution, without_mask

__all__ = [
    "Ancestral",
    "Autoregressive",
    "Confidence",
    "Context",
    "FirstHitting",
    "Gaussian",
    "Metropolis",
    "Network",
    "Ordered",
    "PredictorCorrector",
    "Remasking",
    "Request",
    "Reverse",
    "Sampler",
    "Trace",
    "Trained",
    "euler_distribution",
    "key_value_similarity",
    "left_padded",
    "logits_of",
    "masked_share",
    "positions_of",
    "predicts_masked",
    "read",
    "sample",
    "tau_leaping_distribution",
    "tweedie_distribution",
    "uniform_at",
    "without_mask",
]

TRACED = ("temperature", "limit", "guidance")  # fields of samplers whose value is no part of the program


def sample(
    key: Array,
    model: Model,
    params: Any,
    prompt: Int[Array | np.ndarray, "B P"],
    sampler: Sampler,
    length: int | None = None,
    trained: Trained | None = None,
    watch: Callable[[Int[np.ndarray, "B L"]], None] | None = None,
    row_keys: Int[np.ndarray, "B"] | None = None,
) -> tuple[Int[Array, "B L"], Trace]:
    """Draws B rows of `length` tokens that begin with their prompts.

    Row i draws from fold_in(key, row_keys[i]) alone: it is the same whatever the other rows are, and whether there are
    any.
    Compiled once for all prompts of one bucket of 64 lengths, and for all temperatures, limits and weights of guidance
    but 0; with a feature cache, for all prompts of one length.

    Args:
        key: Key of all randomness.
        model: The network.
        params: Its parameters.
        prompt: Token ids. The mask V is a position to fill, anywhere in the row. Shorter prompts are padded at their
            left with -1 (`left_padded`): the rest of the row is as if the padding were not there.
        sampler: How to draw, such as `Confidence(rule="threshold", limit=0.9)`.
        length: Tokens per row, the prompt and its padding included. Default: those of the prompt, which has masks then.
        trained: What training fixed. Default: a network that reads whole rows from a start symbol.
        watch: Called with all rows at every evaluation of a network that reads tokens.
        row_keys: A number of each row, 0 or more. Default: its position.

    Returns:
        The tokens i32[B, L], and their trace: when each was drawn, how likely it was, and the network evaluations.

    Raises:
        UserError: The sampler's settings do not fit each other, the prompt or the network.
    """
    prompt, trained, mask_id = np.asarray(prompt), trained or Trained(), model.architecture.vocab_size
    length = prompt.shape[-1] if length is None else length
    check(sampler, Request(prompt, length, mask_id, trained))
    tokens = np.full((len(prompt), length), mask_id, np.int32)
    tokens[:, : prompt.shape[1]] = prompt
    rows = block_rows(tokens, mask_id, trained.block_size)
    first = int((rows.tokens == mask_id).any(axis=0).argmax())
    row_keys = np.arange(len(tokens)) if row_keys is None else row_keys
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(row_keys, jnp.uint32))
    fixed, numbers = _split(sampler)
    guides = bool(getattr(sampler, "guidance", 0))
    # the shapes of cached features are those of the prompt
    exact = getattr(sampler, "cache", "none") == "features"
    drawn, trace = _run(
        keys,
        params,
        rows.tokens,
        jnp.int32(first),
        numbers,
        trained.objective_params,
        model=model,
        kind=type(sampler),  # two configs of different samplers are equal as tuples where their fields are
        sampler=fixed,
        trained=trained._replace(objective_params=()),
        bucket=first if exact else -(-first // BUCKET) * BUCKET,
        padded=bool((prompt < 0).any()),
        sides=guided_sides(rows.tokens, rows.tokens.shape[1], mask_id, trained.text_length) if guides else (),
        watch=watch,
    )
    return rows_back(rows, drawn, trace, length)


def _split(sampler: Sampler) -> tuple[Sampler, dict[str, Array]]:
    """(what a program is compiled for, the numbers that it takes)."""
    given = {name: getattr(sampler, name) for name in TRACED if hasattr(sampler, name)}
    placeholders = {name: None if name == "limit" else float(value != 0) for name, value in given.items()}
    fixed = cast(Any, sampler)._replace(**placeholders) if placeholders else sampler
    return fixed, {name: jnp.float32(given.get(name) or 0) for name in TRACED}


@partial(jax.jit, static_argnames=("model", "kind", "sampler", "trained", "bucket", "padded", "sides", "watch"))
def _run(
    keys,
    params,
    tokens,
    first,
    numbers,
    objective_params,
    *,
    model,
    kind,
    sampler,
    trained,
    bucket,
    padded,
    sides,
    watch,
):
    network = Network(model, model.by_layer(params), tokens, watch=watch, shift=int(trained.shift))
    network = network._replace(hides_start=trained.shift and not trained.reads_start, suppress=trained.suppress)
    if padded:
        network = network._replace(padding=(tokens < 0).sum(axis=1))
    if getattr(sampler, "guidance", 0):
        weight = Weight(
            numbers["guidance"], sampler.guidance_ramp, sampler.guidance_min_time, sampler.guidance_max_time
        )
        without = readings_without(tokens, network.mask_id, trained.text_length, sides)
        network = network._replace(guidance=weight, without=without)
    trained = trained._replace(objective_params=objective_params)
    context = Context(trained, bucket, first, numbers["temperature"], numbers["limit"])
    if trained.block_size:
        drawn, trace = in_blocks(sampler, keys, network, tokens, context)
    else:
        drawn, trace = sampler.draw(keys, network, tokens, context)
    return jnp.where(tokens < 0, tokens, drawn), trace
