"""The input and output layers of the network, and the parts that they share with a block."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float

from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.layout import splits_positions
from mdlm_jax.models.modalities import is_image


class Execution(NamedTuple):
    """How the network is run. No choice here changes what it computes or its checkpoints, up to rounding."""

    compute_dtype: Any = jnp.float32  # bfloat16 on accelerators; weights, norms, softmax and logits stay float32
    float8: bool = False  # the layers' products in 8 bits
    scan_layers: bool = False  # compile one block and scan it, for accelerators; unrolled is faster on a CPU
    remat: str = "none"  # a key of REMAT_POLICIES
    attention: str = "einsum"  # a key of `attention.BACKENDS`
    use_segments: bool = True  # False where every row is one document: saves the mask
    mesh: Mesh | None = None  # shards weights and activations (`layout`); None: one device, or this device's own rows


class Norm(nn.Module):
    """RMSNorm or LayerNorm in float32; the output has the type of the input."""

    architecture: Architecture
    affine: bool = True

    @nn.compact
    def __call__(self, x):
        kind = nn.RMSNorm if self.architecture.norm == "rmsnorm" else nn.LayerNorm
        options: dict[str, Any] = {"use_scale": self.affine}
        if kind is nn.LayerNorm:
            # the variance as a difference of squares, which Flax 0.12 takes by default, is 0 where the mean is large
            options |= {"use_bias": self.affine, "use_fast_variance": False}
        return kind(epsilon=self.architecture.norm_epsilon, dtype=jnp.float32, **options)(x).astype(x.dtype)


class Ends(nn.Module):
    """The layers before and after the blocks: embedding, time embedding, last norm, head."""

    architecture: Architecture
    execution: Execution

    def setup(self):
        a = self.architecture
        if a.input_width:
            self.projection = nn.Dense(a.width, use_bias=False, dtype=self.execution.compute_dtype)
        else:
            # V + 1 rows: the last is the mask
            self.embedding = nn.Embed(a.vocab_size + 1, a.width, embedding_init=nn.initializers.normal(std_in(a)))
        if a.learned_positions:
            shape = (a.learned_positions, a.width)
            self.positions = self.param("positions", nn.initializers.normal(std_in(a)), shape)
        if a.modality_embedding:
            self.modalities = self.param("modalities", nn.initializers.normal(std_in(a)), (2, a.width))
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
        """The input of the first block.

        Args:
            read: Tokens, int[B N]; or vectors, [B N input_width], where the network has an input width.
            level: Noise levels, t or sigma, [B T].
            positions: Positions, int[B N P]; None adds nothing that depends on them.

        Returns:
            The residual stream, [B N d], and the embedded noise level, [B T time_width], or None without conditioning.
        """
        condition = None
        if self.architecture.time_conditioning:
            level = 1000.0 * level if self.architecture.time_embedding == "t" else level
            condition = nn.silu(self.time_out(nn.silu(self.time_in(sinusoids(level)))))
        embed = self.projection if self.architecture.input_width else self.embedding
        x = embed(read)
        if self.architecture.learned_positions and positions is not None:
            x = x + self.positions[positions[..., 0]]
        if self.architecture.modality_embedding and positions is not None:
            x = x + self.modalities[is_image(self.architecture, positions).astype(jnp.int32)]
        return x.astype(self.execution.compute_dtype), condition

    def end(self, x, condition):
        """The last norm, with its modulation: [B N d] to [B N d]."""
        flat = self.norm(flatten(self.execution.mesh, x))
        if condition is not None:
            parts = jnp.split(self.last_modulation(condition), 2, axis=-1)
            shift, scale = (flatten(self.execution.mesh, at_positions(part, x.shape[1])) for part in parts)
            flat = (flat * (1 + scale) + shift).astype(x.dtype)
        return flat.reshape(x.shape)

    def head(self, hidden):
        """Logits of the V tokens in float32: [.. d] to [.. V]."""
        tied = self.architecture.tied_head
        kernel = self.embedding.embedding[:-1].T if tied else self.kernel
        kernel, hidden = kernel.astype(self.execution.compute_dtype), hidden.astype(self.execution.compute_dtype)
        flat = hidden.reshape(-1, hidden.shape[-1])
        logits = jnp.matmul(flat, kernel, preferred_element_type=jnp.float32).reshape(*hidden.shape[:-1], -1)
        return logits + self.bias if self.architecture.head_bias else logits


def head_of(ends: dict[str, Any], first: int, stop: int) -> dict[str, Any]:
    """The parameters of a head whose logits are those of the ids first .. stop - 1 alone.

    Args:
        ends: The parameters of `Ends`.
        first: The first id.
        stop: The id after the last.

    Returns:
        Parameters for the method `head` of an `Ends` of stop - first tokens; those of other layers are left out.
    """
    found = {name: ends[name] for name in ("positions", "modalities") if name in ends}
    found |= {name: ends[name][..., first:stop] for name in ("head", "head_bias") if name in ends}
    if "head" not in ends:
        table = ends["embedding"]["embedding"]
        found["embedding"] = {"embedding": jnp.concatenate([table[first:stop], table[-1:]])}
    return found


def ids_of(ends: dict[str, Any]) -> int:
    """How many ids a head has logits of."""
    return ends["head"].shape[-1] if "head" in ends else len(ends["embedding"]["embedding"]) - 1


def sinusoids(level: Float[Array, "*n"], width: int = 256) -> Float[Array, "*n w"]:
    """Cosines and sines of a noise level (1000 t in DiT, sigma in SEDD) at frequencies from 1 down to 1e-4."""
    angle = level[..., None] * 1e4 ** (-jnp.arange(width // 2) / (width // 2))
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def std_in(architecture: Architecture) -> float:
    """SMDM's initial standard deviation of matrices that read the residual stream, and of the embedding."""
    return (2 / 5 / architecture.width) ** 0.5


def modulation(width: int, name: str | None = None):
    """The dense layer of adaLN-zero (DiT, arXiv 2212.09748): its shifts, scales and gates start at zero."""
    return nn.Dense(width, kernel_init=nn.initializers.zeros, name=name)


def at_positions(part: Float[Array, "B T d"], positions: int) -> Float[Array, "B {positions} d"]:
    """A modulation for each position, from one per noise level; T is 1 or the number of positions."""
    return jnp.broadcast_to(part, (part.shape[0], positions, part.shape[2]))


def flatten(mesh: Mesh | None, x):
    """[B N d] as [B N, d] for matrix products; unchanged if a mesh splits positions, which [B N, d] cannot express."""
    return x if splits_positions(mesh) else x.reshape(-1, x.shape[-1])
