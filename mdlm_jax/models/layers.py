"""What stands before and after the blocks of the network, and what they share with a block."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float

from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.layout import splits_positions


class Execution(NamedTuple):
    """How the same mathematics is run. No choice here changes a checkpoint."""

    compute_dtype: Any = jnp.float32  # bfloat16 on accelerators; weights, norms, softmax and logits stay float32
    float8: bool = False  # products of the layers in 8 bits
    scan_layers: bool = False  # one compiled block, right on accelerators; unrolled is faster on a CPU
    remat: str = "none"
    attention: str = "einsum"
    use_segments: bool = True  # False where every row is one document: saves the mask
    mesh: Mesh | None = None  # where weights and activations lie (`layout`); None: one device, or one's own part


class Norm(nn.Module):
    architecture: Architecture
    affine: bool = True

    @nn.compact
    def __call__(self, x):
        kind = nn.RMSNorm if self.architecture.norm == "rmsnorm" else nn.LayerNorm
        options: dict[str, Any] = {"use_scale": self.affine} | ({} if kind is nn.RMSNorm else {"use_bias": self.affine})
        return kind(epsilon=self.architecture.norm_epsilon, dtype=jnp.float32, **options)(x).astype(x.dtype)


class Ends(nn.Module):
    """What stands before and after the blocks: embedding, time embedding, last norm, head."""

    architecture: Architecture
    execution: Execution

    def setup(self):
        a = self.architecture
        if a.input_width:
            self.projection = nn.Dense(a.width, use_bias=False, dtype=self.execution.compute_dtype)
        else:
            # V + 1 rows: the mask is the last
            self.embedding = nn.Embed(a.vocab_size + 1, a.width, embedding_init=nn.initializers.normal(std_in(a)))
        if a.learned_positions:
            shape = (a.learned_positions, a.width)
            self.positions = self.param("positions", nn.initializers.normal(std_in(a)), shape)
        self.norm = Norm(a)
        if a.time_conditioning:
            self.time_in, self.time_out = nn.Dense(a.time_width), nn.Dense(a.time_width)
            self.last_modulation = modulation(2 * a.width)
        if not a.tied_head:
            self.kernel = self.param("head", nn.initializers.normal(std_in(a)), (a.width, a.vocab_size))
        if a.head_bias:
            self.bias = self.param("head_bias", nn.initializers.zeros, (a.vocab_size,))

    def __call__(self, read, t):
        """Touches every parameter, for `init`."""
        x, condition = self.start(read, t)
        return self.head(self.end(x, condition))

    def start(self, read, level, positions=None):
        """Vectors of the residual stream, and of the noise level.

        `read` is tokens, or vectors where the network has an input width; `level` is t or sigma; `positions` are those
        of `read`, [B N P].
        """
        condition = None
        if self.architecture.time_conditioning:
            level = 1000.0 * level if self.architecture.time_embedding == "t" else level
            condition = nn.silu(self.time_out(nn.silu(self.time_in(sinusoids(level)))))
        embed = self.projection if self.architecture.input_width else self.embedding
        x = embed(read)
        if self.architecture.learned_positions and positions is not None:
            x = x + self.positions[positions[..., 0]]
        return x.astype(self.execution.compute_dtype), condition

    def end(self, x, condition):
        flat = self.norm(flatten(self.execution.mesh, x))
        if condition is not None:
            parts = jnp.split(self.last_modulation(condition), 2, axis=-1)
            shift, scale = (flatten(self.execution.mesh, at_positions(part, x.shape[1])) for part in parts)
            flat = (flat * (1 + scale) + shift).astype(x.dtype)
        return flat.reshape(x.shape)

    def head(self, hidden):
        tied = self.architecture.tied_head
        kernel = self.embedding.embedding[:-1].T if tied else self.kernel
        kernel, hidden = kernel.astype(self.execution.compute_dtype), hidden.astype(self.execution.compute_dtype)
        flat = hidden.reshape(-1, hidden.shape[-1])
        logits = jnp.matmul(flat, kernel, preferred_element_type=jnp.float32).reshape(*hidden.shape[:-1], -1)
        return logits + self.bias if self.architecture.head_bias else logits


def sinusoids(level: Float[Array, "*n"], width: int = 256) -> Float[Array, "*n w"]:
    """Cosines and sines of a noise level, 1000 t in DiT and sigma in SEDD, at frequencies from 1 down to 1e-4."""
    angle = level[..., None] * 1e4 ** (-jnp.arange(width // 2) / (width // 2))
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def std_in(architecture: Architecture) -> float:
    """SMDM's initial standard deviation of matrices that read the residual stream, and of the embedding."""
    return (2 / 5 / architecture.width) ** 0.5


def modulation(width: int, name: str | None = None):
    """adaLN-zero (DiT, arXiv 2212.09748): shifts, scales and gates that start at zero."""
    return nn.Dense(width, kernel_init=nn.initializers.zeros, name=name)


def at_positions(part: Float[Array, "B T d"], positions: int) -> Float[Array, "B {positions} d"]:
    """What each position is modulated by; T is 1 or the number of positions."""
    return jnp.broadcast_to(part, (part.shape[0], positions, part.shape[2]))


def flatten(mesh: Mesh | None, x):
    """[B N d] as products see it: [B N, d], unless a mesh splits positions, as no split of B N could express that."""
    return x if splits_positions(mesh) else x.reshape(-1, x.shape[-1])
