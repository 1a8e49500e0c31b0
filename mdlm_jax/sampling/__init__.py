"""Every way to draw text from a trained network, behind one function."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from mdlm_jax.models.transformer import Model
from mdlm_jax.sampling.base import BUCKET, Plan, Trace, TracedArguments, left_padded
from mdlm_jax.sampling.blocks import in_blocks
from mdlm_jax.sampling.checks import check
from mdlm_jax.sampling.network import Network
from mdlm_jax.sampling.samplers import SAMPLERS
from mdlm_jax.sampling.similarity import key_value_similarity
from mdlm_jax.sampling.steps import euler_distribution, tau_leaping_distribution, tweedie_distribution, without_mask

__all__ = [
    "Plan",
    "Trace",
    "euler_distribution",
    "key_value_similarity",
    "left_padded",
    "sample",
    "tau_leaping_distribution",
    "tweedie_distribution",
    "without_mask",
]


def sample(
    key: Array,
    model: Model,
    params: Any,
    prompt: Int[Array | np.ndarray, "B P"],
    plan: Plan,
    watch: Callable[[Int[np.ndarray, "B L"]], None] | None = None,
) -> tuple[Int[Array, "B L"], Trace]:
    """B rows of L tokens that begin with their prompts, and how they came about.

    A prompt token V, the mask, is to be filled as well: text may be given anywhere, up to all L positions. Shorter
    prompts are padded at their left with -1 (`left_padded`): what follows is as if the padding were not there. `watch`
    is called with all rows at every evaluation of a network that reads tokens, as they are then.

    Row i draws from fold_in(key, i) alone: it is the same whatever the other rows are, and whether there are any.
    Compiled once for all prompts of one `bucket`, temperatures but 0, limits and weights of guidance but 0; with a
    cache of features for all prompts of one length. Raises UserError where the plan or the prompt cannot be followed.
    """
    prompt = np.asarray(prompt)
    check(plan, prompt, model.architecture.vocab_size)
    mask_id, (batch, given) = model.architecture.vocab_size, prompt.shape
    tokens = np.full((batch, plan.length), mask_id, np.int32)
    tokens[:, :given] = prompt
    first = int((tokens == mask_id).any(axis=0).argmax())
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch))
    traced = TracedArguments(
        jnp.int32(first), jnp.float32(plan.temperature), jnp.float32(plan.limit or 0), plan.objective_params
    )
    fixed = plan._replace(
        temperature=float(plan.temperature > 0),
        limit=None,
        guidance=float(plan.guidance != 0),
        objective_params=(),
        # the shapes of features are those of the prompt
        bucket=first if plan.cache == "features" else -(-first // BUCKET) * BUCKET,
    )
    padded = bool((prompt < 0).any())
    return _run(
        keys, params, tokens, traced, jnp.float32(plan.guidance), model=model, plan=fixed, padded=padded, watch=watch
    )


@partial(jax.jit, static_argnames=("model", "plan", "padded", "watch"))
def _run(keys, params, tokens, traced: TracedArguments, guidance, *, model: Model, plan: Plan, padded: bool, watch):
    network = Network(model, model.by_layer(params), tokens, watch=watch)
    if padded:
        network = network._replace(padding=(tokens < 0).sum(axis=1))
    if plan.guidance:
        given = tokens != network.mask_id
        network = network._replace(guidance=guidance, ramp=plan.guidance_ramp, given=given)
    sampler = SAMPLERS[plan.sampler]
    if plan.trained_blocks:
        drawn, trace = in_blocks(sampler, keys, network, tokens, plan, traced)
    else:
        drawn, trace = sampler(keys, network, tokens, plan, traced)
    return jnp.where(tokens < 0, tokens, drawn), trace
