"""The memory of a device for a training step, in closed form.

Counted on the step of SMDM's 19M as XLA compiles it (float32, layers scanned): a token in a layer holds about
20 d + 5 mlp_width numbers and, for attention by einsum, 2.5 H L more. Compiled for TPU pods and H200s a step reserves
0.8 to 1.15 of it; with cuDNN's attention 0.45 to 0.96.
"""

from typing import NamedTuple

from ml_collections import ConfigDict

from mdlm_jax.costs.flops import block_matrices, num_parameters
from mdlm_jax.models.architecture import Architecture

BYTES = {"float32": 4, "bfloat16": 2}
NUMBERS_PER_PAIR = 2.5  # scores, probabilities and their gradient, partly shared


class Memory(NamedTuple):
    """Bytes on one device."""

    state: float  # parameters, the optimiser's moments, gradients and averaged weights, all float32
    gathered: float  # one layer whole, embedding and head in float32, and their gradients
    activations: float
    logits: float  # of a chunk, and their gradient

    @property
    def total(self) -> float:
        return sum(self)


def device_memory(
    config: ConfigDict, architecture: Architecture, *, devices: int, positions: int, scored: int, views: int
) -> Memory:
    """Memory of a run on `devices`, for views of `positions` positions, `scored` of which have logits.

    `mesh_data` copies of the parameters are each split over the other devices. Rows are split over `mesh_data` and
    `mesh_fsdp`, their positions over the others.
    """
    a, train = architecture, config.train
    parameters, size = num_parameters(a), BYTES[train.compute_dtype]
    parts = train.mesh_sequence * train.mesh_tensor
    split = max(devices // train.mesh_data, 1) if train.mesh_fsdp == -1 else train.mesh_fsdp * parts
    split = 1 if train.runner != "jit" else split
    rows = max(train.batch_size * views / train.microbatches / max(devices / parts, 1), 1) / parts
    key_values = 2 * a.key_value_heads * a.head_width
    pairs = NUMBERS_PER_PAIR * a.heads * positions if train.attention == "einsum" else 0
    layer = 20 * a.width + 5 * a.mlp_width + pairs
    kept = {"none": layer, "dots": 2 * a.width + key_values + 2 * a.mlp_width, "full": a.width}[train.remat]
    ends = parameters.embedding + parameters.head
    gathered = (size + 4) * parameters.non_embedding / a.layers / train.mesh_tensor + 8 * ends
    working = 0 if train.remat == "none" else layer  # a layer that is recomputed, one at a time
    return Memory(
        state=4 * ((2 + bool(config.optim.ema)) * parameters.total + _moments(config.optim.name, a)) / split,
        gathered=gathered if split > 1 else 0.0,
        activations=size * rows * positions * (a.layers * kept + working),
        logits=2 * 4 * rows * min(train.loss_chunk, scored) * a.vocab_size,
    )


def _moments(optimizer: str, architecture: Architecture) -> int:
    """Numbers that the optimiser keeps: two for each parameter; Lion, and Muon for the matrices of blocks, keep one."""
    parameters = num_parameters(architecture).total
    if optimizer == "lion":
        return parameters
    matrices = architecture.layers * sum(a * b for a, b in block_matrices(architecture).values())
    return 2 * parameters - (matrices if optimizer == "muon" else 0)
