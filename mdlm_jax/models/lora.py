"""Low-rank adapters of the matrices of blocks: W + alpha / rank A B.

The sum is formed before the network runs, so that every objective, cache and sampler works with adapters, and the
exported weights compute what was trained. It costs rank / positions of the matrix's own product.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mdlm_jax.errors import UserError
from mdlm_jax.models.transformer import Model

DRAWN = 2**31 - 1  # folded into the key of the initial weights, so that those of the network stay as they are


class Lora(NamedTuple):
    """Which matrices have adapters."""

    matrices: tuple[str, ...]  # such as query; each name once
    rank: int
    alpha: float


def with_adapters(model: Model, lora: Lora) -> Model:
    """The network with adapters, as further parameters `lora`: A is random, B zero, so that it begins as it was.

    Args:
        model: The network.
        lora: Which matrices, and how.

    Raises:
        UserError: The network has no such matrix.

    Reference: LoRA, arXiv 2106.09685.
    """
    blocks = jax.eval_shape(model.init, jax.random.key(0))["blocks"]
    matrices = [name for name, leaves in blocks.items() if "kernel" in leaves]
    for name in lora.matrices:
        if name not in matrices:
            accepted = f"accepted for this network: {', '.join(matrices)}"
            raise UserError(f"config.model.lora_matrices has {name!r}; {accepted}")

    def init(key: Array) -> Any:
        params, down, up = model.init(key), {}, {}
        for name, own in zip(
            lora.matrices, jax.random.split(jax.random.fold_in(key, DRAWN), len(lora.matrices)), strict=True
        ):
            layers, inputs, outputs = params["blocks"][name]["kernel"].shape
            down[name] = jax.random.normal(own, (layers, inputs, lora.rank)) * inputs**-0.5
            up[name] = jnp.zeros((layers, lora.rank, outputs))
        return {**params, "lora": {"a": down, "b": up}}

    def hidden(params: Any, *arguments, **options):
        return model.hidden(merged(params, lora), *arguments, **options)

    return model._replace(init=init, hidden=hidden, by_layer=lambda params: model.by_layer(merged(params, lora)))


def merged(params: Any, lora: Lora) -> Any:
    """The parameters of the network without adapters that computes the same; those of such a network unchanged."""
    if "lora" not in params:
        return params
    blocks = dict(params["blocks"])
    for name in lora.matrices:
        a, b = params["lora"]["a"][name], params["lora"]["b"][name]
        added = lora.alpha / lora.rank * jnp.einsum("lir,lro->lio", a, b, preferred_element_type=jnp.float32)
        blocks[name] = {**blocks[name], "kernel": blocks[name]["kernel"] + added}
    return {"ends": params["ends"], "blocks": blocks}
