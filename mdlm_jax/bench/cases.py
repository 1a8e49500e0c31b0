"""The measured cases: models that differ from a base in one option. Imports neither jax nor torch."""

from typing import NamedTuple

LEARNING_RATE, BETAS, EPSILON, WEIGHT_DECAY, CLIP, NORM_EPSILON = 1e-3, (0.9, 0.95), 1e-8, 0.1, 1.0, 1e-5


class Case(NamedTuple):
    """A model with SMDM's options (RMSNorm, RoPE, SwiGLU, no bias, untied head), an objective and a batch."""

    layers: int
    width: int
    heads: int
    mlp_width: int
    vocab_size: int  # V
    length: int  # L
    batch_size: int  # B
    objective: str = "masked"  # masked | ar | blocks: masked tokens in blocks of 16
    attention: str = "einsum"
    loss_chunk: int = 128
    scored_only: bool = False
    dtype: str = "float32"
    scan_layers: bool = False
    float8: bool = False  # products of the layers in 8 bits
    beside_torch: bool = False  # also measured in alternation with PyTorch
    members: int = 1  # of a population, each with its own batch
    devices: int = 1  # that rows and weights are split over
    steps_per_dispatch: int = 1  # more hide the host: their gain is the gap between single steps


class Suite(NamedTuple):
    cases: dict[str, Case]  # the first is the base, with which every other alternates
    rounds: int
    matmul_width: int  # of the square product whose rate is the reference
    small: Case  # the case of the populations, also split over devices


POPULATIONS, DEVICES = (1, 4, 16), (1, 2, 4, 8)


def _around(base: Case, rounds: int, matmul_width: int, small: Case, **others: dict) -> Suite:
    """The base and, by name, the options in which others differ; `beside_torch` is one of them."""
    alone = base._replace(beside_torch=False)
    cases = {"base": base} | {name.replace("_", " "): alone._replace(**changes) for name, changes in others.items()}
    return Suite(cases, rounds, matmul_width, small)


_TINY = Case(1, 16, 2, 32, 64, 32, 2, beside_torch=True)
_QUICK = Case(4, 128, 4, 512, 32000, 256, 2, attention="blocked", beside_torch=True)
_CPU = Case(6, 256, 4, 1024, 32000, 2048, 2, attention="blocked", beside_torch=True)
# SMDM's 170M; cases are few, because each takes half a minute to compile
_GPU = Case(18, 768, 12, 3072, 32000, 2048, 16, "masked", "library", 512, False, "bfloat16", True, beside_torch=True)
_1028M = {"layers": 20, "width": 1792, "heads": 14, "mlp_width": 7168, "batch_size": 8}
# 2,048 tokens a member and step
_SMALL = Case(4, 128, 4, 512, 260, 256, 8)
SUITES = {
    "smallest": _around(
        _TINY,
        1,
        64,
        _TINY._replace(batch_size=8),
        scored_only={"scored_only": True, "beside_torch": True},
        dispatched_together={"steps_per_dispatch": 3},
    ),
    "quick": _around(
        _QUICK,
        3,
        1024,
        _SMALL,
        ar={"objective": "ar", "beside_torch": True},
        scored_only={"scored_only": True, "beside_torch": True},
        blocks={"objective": "blocks"},
        einsum={"attention": "einsum"},
        twice_as_long={"length": 512},
        half_as_deep={"layers": 2},
    ),
    "cpu": _around(
        _CPU,
        4,
        2048,
        _SMALL,
        ar={"objective": "ar", "beside_torch": True},
        scored_only={"scored_only": True, "beside_torch": True},
        short={"layers": 8, "mlp_width": 640, "vocab_size": 260, "length": 256, "batch_size": 16, "loss_chunk": 256}
        | {"attention": "einsum", "beside_torch": True},
    ),
    "gpu": _around(
        _GPU,
        7,
        8192,
        _SMALL._replace(attention="library", dtype="bfloat16"),
        dispatched_together={"steps_per_dispatch": 20},
        float8={"float8": True},
        **{"1028M": _1028M | {"beside_torch": True}, "1028M_float8": _1028M | {"float8": True}},
        einsum={"attention": "einsum"},
        blocked={"attention": "blocked"},
        blocks={"objective": "blocks"},
        blocks_blocked={"objective": "blocks", "attention": "blocked"},
        ar={"objective": "ar"},
    ),
}
