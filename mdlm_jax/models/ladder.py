"""Model sizes: the 30 of SMDM, and smaller ones for a laptop."""

from mdlm_jax.errors import UserError
from mdlm_jax.models.architecture import Architecture


def _llama(layers: int, heads: int, width: int, vocab_size: int) -> Architecture:
    return Architecture(vocab_size, layers, width, heads, key_value_heads=heads, mlp_width=4 * width)


# The grid of SMDM (arXiv 2410.18514, `lit_gpt/config.py`): layers, heads, width; named by non-embedding parameters.
SMDM: dict[str, Architecture] = {
    "6M": _llama(6, 4, 256, 32000),
    "19M": _llama(8, 6, 384, 32000),
    "34M": _llama(8, 8, 512, 32000),
    "48M": _llama(9, 9, 576, 32000),
    "66M": _llama(10, 10, 640, 32000),
    "85M": _llama(13, 10, 640, 32000),
    "75M": _llama(16, 8, 640, 32000)._replace(mlp_width=1600),  # the one size whose MLP is not 4d wide
    "113M": _llama(12, 12, 768, 32000),
    "142M": _llama(15, 12, 768, 32000),
    "170M": _llama(18, 12, 768, 32000),
    "180M": _llama(14, 14, 896, 32000),
    "206M": _llama(16, 14, 896, 32000),
    "231M": _llama(18, 14, 896, 32000),
    "268M": _llama(16, 16, 1024, 32000),
    "302M": _llama(18, 16, 1024, 32000),
    "336M": _llama(20, 16, 1024, 32000),
    "472M": _llama(18, 10, 1280, 32000),
    "551M": _llama(21, 10, 1280, 32000),
    "571M": _llama(18, 11, 1408, 32000),
    "629M": _llama(24, 10, 1280, 32000),
    "666M": _llama(21, 11, 1408, 32000),
    "717M": _llama(19, 12, 1536, 32000),
    "761M": _llama(24, 11, 1408, 32000),
    "831M": _llama(22, 12, 1536, 32000),
    "944M": _llama(25, 12, 1536, 32000),
    "1028M": _llama(20, 14, 1792, 32000),
    "1233M": _llama(24, 14, 1792, 32000),
    "1476M": _llama(22, 16, 2048, 32000),
    "1678M": _llama(25, 16, 2048, 32000),
    "2121M": _llama(28, 17, 2176, 32000),
}

# The same family continued to smaller sizes, on bytes: each step multiplies the parameters by about 1.2 to 2.
SMALL: dict[str, Architecture] = {
    "0.53k": _llama(2, 1, 4, 256),
    "1k": _llama(1, 1, 8, 256),
    "2k": _llama(2, 1, 8, 256),
    "4k": _llama(1, 2, 16, 256),
    "4.7k": _llama(2, 1, 12, 256),
    "8k": _llama(2, 2, 16, 256),
    "12k": _llama(3, 2, 16, 256),
    "19k": _llama(2, 3, 24, 256),
    "28k": _llama(3, 3, 24, 256),
    "33k": _llama(2, 4, 32, 256),
    "49k": _llama(3, 4, 32, 256),
    "74k": _llama(2, 3, 48, 256),
    "111k": _llama(3, 3, 48, 256),
    "131k": _llama(2, 4, 64, 256),
    "197k": _llama(3, 4, 64, 256),
    "295k": _llama(2, 6, 96, 256),
    "443k": _llama(3, 6, 96, 256),
    "787k": _llama(3, 4, 128, 256),
    "1.3M": _llama(5, 4, 128, 256),
    "2.4M": _llama(4, 6, 192, 256),
    "3.5M": _llama(6, 6, 192, 256),
    "5.2M": _llama(5, 4, 256, 256),
    "9.8M": _llama(6, 5, 320, 256),
    "14M": _llama(6, 6, 384, 256),
    "21M": _llama(9, 6, 384, 256),
}


def architecture(name: str, vocab_size: int, **overrides) -> Architecture:
    """The architecture of a named size.

    Args:
        name: A key of SMALL or SMDM.
        vocab_size: V, without the mask.
        **overrides: Fields of Architecture to replace.

    Raises:
        UserError: The size or a field is unknown.
    """
    sizes = SMALL | SMDM
    if name not in sizes:
        raise UserError(f"unknown model size '{name}'; known: {', '.join(sizes)}")
    unknown = sorted(set(overrides) - set(Architecture._fields))
    if unknown:
        raise UserError(f"unknown field '{unknown[0]}' of an architecture; known: {', '.join(Architecture._fields)}")
    return sizes[name]._replace(**{"vocab_size": vocab_size, **overrides})
