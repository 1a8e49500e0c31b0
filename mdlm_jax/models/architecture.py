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
    # of rows of text and image: positions of text, and the columns of the image's patches; 0: all of a row is text
    text_length: int = 0
    image_columns: int = 0
    modality_embedding: bool = False  # a vector for text and one for image are added to the embedding
    image_rope: str = "1d"  # coordinates of a patch: 1d, its place in the row | 2d, its row and column
    image_rope_factor: float = 1.0  # rows and columns are divided by it
    # fields that only public checkpoints use
    head_size: int = 0  # width of a head; 0: width / heads
    qkv_bias: bool = False  # on queries, keys and values, not on their output
    learned_positions: int = 0  # rows of a table of positions added to the embedding; 0: none
    rope_scaling: str = ""  # such as `linear:factor=2`, see `rope_scaling`
    rope_bfloat16: bool = False  # cosines and sines rounded to bfloat16, as in SMDM's released code

    @property
    def for_any_image(self) -> "Architecture":
        """The same network whatever the rows that it reads: no weight depends on the sizes of text and image."""
        return self._replace(text_length=0, image_columns=0, image_rope_factor=1.0)

    @property
    def head_width(self) -> int:
        """The width of one attention head."""
        return self.head_size or self.width // self.heads
