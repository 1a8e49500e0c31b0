"""Parameters and training FLOPs in closed form, from the shape of the network alone.

A multiply-accumulate is 2 FLOPs; the backward pass costs twice the forward one. Norms, softmax, rotations, embedding
look-ups and the optimiser are not counted, by any counter (`optimizer_flops` has the optimiser's). Parameters are the
network's; an objective's own are not.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from mdlm_jax.costs.counters import Flops
from mdlm_jax.errors import UserError
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.objectives.base import MaskFn

NEWTON_SCHULZ_STEPS = 5  # of Muon
TIME_FREQUENCIES = 256  # sines and cosines of the noise level, read by the time embedding (DiT, MDLM)


class Parameters(NamedTuple):
    embedding: int
    non_embedding: int  # N of most scaling laws: neither embedding nor head
    head: int  # its bias included; a tied head adds nothing but that

    @property
    def total(self) -> int:
        return self.embedding + self.non_embedding + self.head


def _matmul_parameters_per_layer(architecture: Architecture) -> int:
    a = architecture
    attention = 2 * a.width * (a.heads + a.key_value_heads) * a.head_width
    matrices = 3 if a.mlp == "swiglu" else 2
    return attention + matrices * a.width * a.mlp_width


def _matmul_parameters_of_time(architecture: Architecture) -> int:
    """Matrices of the time embedding and of its modulation of the blocks and the last norm."""
    a = architecture
    if not a.time_conditioning:
        return 0
    return a.time_width * (TIME_FREQUENCIES + a.time_width) + (6 * a.layers + 2) * a.width * a.time_width


def num_parameters(architecture: Architecture) -> Parameters:
    """Parameters of the network. With SMDM's options: non_embedding = layers (4d^2 + 3 d mlp_width + 2d) + d."""
    a = architecture
    per_norm = 2 if a.norm == "layernorm" else 1  # scale, and bias
    vectors = 2 * per_norm * a.width
    if a.qk_norm:
        vectors += 2 * per_norm * a.head_width
    if a.attention_bias or a.qkv_bias:
        vectors += (a.heads + 2 * a.key_value_heads) * a.head_width
    if a.attention_bias:
        vectors += a.width
    if a.mlp_bias:
        vectors += (2 if a.mlp == "swiglu" else 1) * a.mlp_width + a.width
    rows = 0 if a.input_width else a.vocab_size + 1
    outside = per_norm * a.width + _matmul_parameters_of_time(a) + a.input_width * a.width
    if a.time_conditioning:
        vectors += 6 * a.width
        outside += 2 * a.time_width + 2 * a.width
    return Parameters(
        embedding=(rows + a.learned_positions + 2 * a.modality_embedding) * a.width,
        non_embedding=a.layers * (_matmul_parameters_per_layer(a) + vectors) + outside,
        head=(0 if a.tied_head else a.vocab_size * a.width) + (a.vocab_size if a.head_bias else 0),
    )


def attended_pairs(mask: MaskFn, n: int) -> int:
    """The number of (query, key) pairs among n positions that attend under `mask`: n(n+1)/2 for causal."""
    rows = 512  # at 8192 positions, 4 MB a block
    keys = jnp.arange(n)[None, :]
    pairs = 0
    for start in range(0, n, rows):
        queries = jnp.arange(start, min(start + rows, n))[:, None]
        pairs += int(np.broadcast_to(mask(queries, keys), (len(queries), n)).sum())
    return pairs


def flops_per_sequence(
    architecture: Architecture,
    *,
    sequence_length: int,
    pairs: int,
    positions: int,
    scored: int,
    noise_levels: int,
    views: int,
    logits: int | None = None,
) -> Flops:
    """Training FLOPs of one sequence of `sequence_length` tokens.

    The first three counters are conventions of the literature and know only the tokens. `exact` is 3 x forward of
    `views` views of `positions` positions each, `pairs` of which attend, with logits at `scored` of them. What a
    network makes of a noise level it makes once for each of the `noise_levels` of a view: 1, or one a position. Where
    vectors are read, their projection is counted, and the three products of that width with the vocabulary that score a
    position: what it shows of every token, their mean, their distances. `logits` is their number in a view, where it
    is not that of all tokens at each of the `scored` positions.
    """
    a, parameters = architecture, num_parameters(architecture)
    six_nonembedding = 6 * parameters.non_embedding * sequence_length
    dense = a.layers * _matmul_parameters_per_layer(a) + a.input_width * a.width
    logits = scored * a.vocab_size if logits is None else logits
    forward = 2 * positions * dense + 2 * noise_levels * _matmul_parameters_of_time(a)
    forward += 2 * logits * (a.width + 3 * a.input_width)
    forward += 4 * pairs * a.layers * a.heads * a.head_width
    return Flops(
        six_nonembedding=six_nonembedding,
        six_total=6 * parameters.total * sequence_length,
        six_attention=six_nonembedding + 12 * a.layers * a.heads * a.head_width * sequence_length**2,
        exact=3 * views * forward,
    )


def block_matrices(architecture: Architecture) -> dict[str, tuple[int, int]]:
    """The matrices of a block, by module: (width of the network, the other width)."""
    a = architecture
    heads, groups = a.heads * a.head_width, a.key_value_heads * a.head_width
    others = {"query": heads, "key": groups, "value": groups, "attention_out": heads, "up": a.mlp_width}
    others |= {"down": a.mlp_width} | ({"gate": a.mlp_width} if a.mlp == "swiglu" else {})
    return {module: (a.width, other) for module, other in others.items()}


def optimizer_flops(architecture: Architecture, name: str, frozen: Sequence[str] = ()) -> int:
    """FLOPs of the optimiser's matrix products in a step: those of Muon's five Newton-Schulz steps; 0 for the others.

    A step takes X X^T, its square and one more product with X, of every matrix of a block.

    Args:
        architecture: The network.
        name: The optimiser.
        frozen: Patterns of the names of parameters that are not trained.
    """
    if name != "muon":
        return 0
    total = 0
    for module, widths in block_matrices(architecture).items():
        if not any(fnmatchcase(f"blocks/{module}/kernel", pattern) for pattern in frozen):
            short, long = sorted(widths)
            total += architecture.layers * NEWTON_SCHULZ_STEPS * (4 * short**2 * long + 2 * short**3)
    return total


def steps_for_budget(budget: float, flops_per_step: int) -> int:
    """Whole steps within a budget of FLOPs.

    Raises:
        UserError: The budget is smaller than one step.
    """
    steps = int(budget) // flops_per_step
    if steps < 1:
        raise UserError(f"a budget of {budget:.3g} FLOPs is smaller than one step, which takes {flops_per_step:.3g}")
    return steps
