"""Shapes of the named model sizes: the 30 of SMDM, and smaller ones for a laptop."""

from typing import NamedTuple


class Size(NamedTuple):
    """The shape of a network, without its vocabulary."""

    layers: int
    heads: int
    width: int  # d
    mlp_width: int


# The grid of SMDM (arXiv 2410.18514, `lit_gpt/config.py`), named by non-embedding parameters.
SMDM: dict[str, Size] = {
    "6M": Size(6, 4, 256, 1024),
    "19M": Size(8, 6, 384, 1536),
    "34M": Size(8, 8, 512, 2048),
    "48M": Size(9, 9, 576, 2304),
    "66M": Size(10, 10, 640, 2560),
    "85M": Size(13, 10, 640, 2560),
    "75M": Size(16, 8, 640, 1600),  # the one size whose MLP is not 4d wide
    "113M": Size(12, 12, 768, 3072),
    "142M": Size(15, 12, 768, 3072),
    "170M": Size(18, 12, 768, 3072),
    "180M": Size(14, 14, 896, 3584),
    "206M": Size(16, 14, 896, 3584),
    "231M": Size(18, 14, 896, 3584),
    "268M": Size(16, 16, 1024, 4096),
    "302M": Size(18, 16, 1024, 4096),
    "336M": Size(20, 16, 1024, 4096),
    "472M": Size(18, 10, 1280, 5120),
    "551M": Size(21, 10, 1280, 5120),
    "571M": Size(18, 11, 1408, 5632),
    "629M": Size(24, 10, 1280, 5120),
    "666M": Size(21, 11, 1408, 5632),
    "717M": Size(19, 12, 1536, 6144),
    "761M": Size(24, 11, 1408, 5632),
    "831M": Size(22, 12, 1536, 6144),
    "944M": Size(25, 12, 1536, 6144),
    "1028M": Size(20, 14, 1792, 7168),
    "1233M": Size(24, 14, 1792, 7168),
    "1476M": Size(22, 16, 2048, 8192),
    "1678M": Size(25, 16, 2048, 8192),
    "2121M": Size(28, 17, 2176, 8704),
}

# The same family continued to smaller sizes: each step multiplies the parameters by about 1.2 to 2.
SMALL: dict[str, Size] = {
    "0.53k": Size(2, 1, 4, 16),
    "1k": Size(1, 1, 8, 32),
    "2k": Size(2, 1, 8, 32),
    "4k": Size(1, 2, 16, 64),
    "4.7k": Size(2, 1, 12, 48),
    "8k": Size(2, 2, 16, 64),
    "12k": Size(3, 2, 16, 64),
    "19k": Size(2, 3, 24, 96),
    "28k": Size(3, 3, 24, 96),
    "33k": Size(2, 4, 32, 128),
    "49k": Size(3, 4, 32, 128),
    "74k": Size(2, 3, 48, 192),
    "111k": Size(3, 3, 48, 192),
    "131k": Size(2, 4, 64, 256),
    "197k": Size(3, 4, 64, 256),
    "295k": Size(2, 6, 96, 384),
    "443k": Size(3, 6, 96, 384),
    "787k": Size(3, 4, 128, 512),
    "1.3M": Size(5, 4, 128, 512),
    "2.4M": Size(4, 6, 192, 768),
    "3.5M": Size(6, 6, 192, 768),
    "5.2M": Size(5, 4, 256, 1024),
    "9.8M": Size(6, 5, 320, 1280),
    "14M": Size(6, 6, 384, 1536),
    "21M": Size(9, 6, 384, 1536),
}

SIZES = SMALL | SMDM
