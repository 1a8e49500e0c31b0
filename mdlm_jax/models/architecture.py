"""The shape of a network: plain numbers, so that counting parameters and FLOPs needs no network library."""

from typing import NamedTuple


class Architecture(NamedTuple):
    """One transformer. The defaults are SMDM's (arXiv 2410.18514): RMSNorm, RoPE, SwiGLU, no bias, untied head.

    The embedding has V + 1 rows, the last of which is the mask (and the start symbol of `ar`); the head has V outputs,
    so no model can ever predict the mask. A network that reads vectors has a projection in place of the
    embedding.
    """

    vocab_size: int  # V, without the mask
    layers: int
    width: int  # d
    heads: int
    key_value_heads: int  # fewer than heads: grouped-query attention
    mlp_width: int
    mlp: str = "swiglu"  # swiglu | gelu
    norm: str = "rmsnorm"  # rmsnorm | layernorm
    norm_epsilon: float = 1e-5
    rope_base: float = 1e4  # 0: no rotary embedding
    qk_norm: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    tied_head: bool = False
    time_conditioning: bool = False  # adaLN-zero from an embedding of the noise level (DiT, MDLM)
    time_embedding: str = "t"  # embedded noise level: t as 1000 t (DiT) | sigma = -log alpha (SEDD, MDLM)
    time_width: int = 128  # width of that embedding
    dropout: float = 0.0
    input_width: int = 0  # width of vectors read instead of tokens (`View.noisy`); 0: tokens
    parametrization: str = "standard"  # standard | mup | completep, see `parametrization`
    base_width: int = 64  # the shape at which those are the standard network
    base_layers: int = 2
    base_head_width: int = 16
    # fields that only public checkpoints use
    head_size: int = 0  # width of a head; 0: width / heads
    qkv_bias: bool = False  # on queries, keys and values, not on their output
    learned_positions: int = 0  # rows of a table of positions added to the embedding; 0: none
    rope_scaling: str = ""  # such as `linear:factor=2`, see `rope_scaling`
    rope_bfloat16: bool = False  # cosines and sines rounded to bfloat16, as in SMDM's released code

    @property
    def head_width(self) -> int:
        """The width of one attention head."""
        return self.head_size or self.width // self.heads
