"""MDLM (arXiv 2406.07524), BD3-LM (arXiv 2503.09573) and SEDD (arXiv 2310.16834): DiT with adaLN from sigma.

MDLM and BD3-LM without time conditioning read sigma = 0 at every time.
"""

from functools import partial
from typing import NamedTuple

from mdlm_jax.models.architecture import Architecture
from mdlm_jax.weights.description import EMBEDDING, HEAD, Description, block, count_layers, last_scale, linear, scale
from mdlm_jax.weights.settings import Settings
from mdlm_jax.weights.slots import Fill, Slot, transposed, unchanged
from mdlm_jax.weights.tensors import Tensor

FREQUENCIES = 256  # cosines, then sines, of the noise level
PARTS = ("query", "key", "value")


# SEDD's and MDLM's log-linear noise, sigma = -log(1 - (1 - 1e-3) t)
LOG_LINEAR = {"schedule": "linear", "epsilon_convention": "mdlm", "epsilon": 1e-3}
GEOMETRIC = {"sigma_min": 1e-4, "sigma_max": 20.0}  # as in SEDD's configuration and in `schedules.geometric`


class _Shape(NamedTuple):
    rows: int  # of the embedding
    masks: bool  # the last of them is the mask
    timed: bool  # the network reads sigma
    width: int
    heads: int
    layers: int


def mdlm(settings: Settings, tensors: dict[str, Tensor]) -> Description:
    found = _describe(settings, tensors, _shape(settings, tensors, settings.flag("time_conditioning")))
    timed = found.architecture.time_embedding == "sigma"
    return found._replace(keys=LOG_LINEAR if timed else {})


def bd3lm(settings: Settings, tensors: dict[str, Tensor]) -> Description:
    settings.only("cross_attn", True, False)
    settings.only("time_conditioning", False)
    found = _describe(settings, tensors, _shape(settings, tensors, timed=False))
    return found._replace(block_size=settings.integer("block_size"))


def sedd(settings: Settings, tensors: dict[str, Tensor]) -> Description:
    """SEDD's own configuration, which has no `model_type`. Its logits are scores, not those of a denoiser."""
    model, graph, noise = (settings.inner(key) for key in ("model", "graph", "noise"))
    graph.only("type", "absorb", "uniform")
    noise.only("type", "loglinear", "geometric")
    masks, scaled = graph.get("type", "absorb") == "absorb", model.flag("scale_by_sigma", True)
    if scaled and not masks:
        model.refuse("scale_by_sigma", "false where graph.type is uniform")
    keys = LOG_LINEAR
    if noise.get("type", "loglinear") == "geometric":
        for key, value in GEOMETRIC.items():
            if noise.number(key, value) != value:
                noise.refuse(key, str(value))
        keys = {"schedule": "geometric"}
    keys = keys | {"process": "absorbing" if masks else "uniform", "score": "scaled" if scaled else "raw"}
    rows = settings.integer("tokens") + masks
    shape = _shape(model, tensors, timed=True, width="hidden_size", rows=rows)._replace(masks=masks)
    context = model.integer("length", 1024)
    return _describe(model, tensors, shape)._replace(context=context, objective="sedd", keys=keys)


def _shape(settings: Settings, tensors: dict, timed: bool, width: str = "hidden_dim", rows: int = 0) -> _Shape:
    columns, heads = settings.integer(width), settings.integer("n_heads")
    if columns % heads or (columns // heads) % 2:
        settings.refuse("n_heads", f"a divisor of {width} = {columns} that leaves an even number")
    rows = rows or settings.integer("vocab_size", least=2)
    return _Shape(rows, True, timed, columns, heads, count_layers(settings, "n_blocks", tensors))


def _describe(settings: Settings, tensors: dict[str, Tensor], shape: _Shape) -> Description:
    """Our head has no column for the mask: MDLM sets theirs to -inf, SEDD never reads it."""
    settings.only("causal", False)
    rows, width, columns = shape.rows, shape.width, shape.rows - shape.masks
    prefix = "backbone." if any(name.startswith("backbone.") for name in tensors) else ""
    known = tensors.get(prefix + "sigma_map.mlp.0.weight")
    # the published configuration is one off, the tensors are right
    time_width = known.shape[0] if known is not None and known.shape else settings.integer("cond_dim")
    architecture = Architecture(
        vocab_size=columns,
        layers=shape.layers,
        width=width,
        heads=shape.heads,
        key_value_heads=shape.heads,
        mlp_width=4 * width,
        mlp="gelu",
        norm="layernorm",
        mlp_bias=True,
        head_bias=True,
        time_conditioning=True,
        time_embedding="sigma" if shape.timed else "t",
        time_width=time_width,
    )
    out = prefix + "output_layer."
    slots = [
        Slot(prefix + "vocab_embed.embedding", (rows, width), (Fill(EMBEDDING, None, unchanged),)),
        *_time(prefix + "sigma_map.mlp.", time_width, shape.timed),
        last_scale(out + "norm_final.weight", width, "LayerNorm"),
        Slot(out + "linear.weight", (rows, width), (Fill(HEAD, None, lambda stored: stored[:columns].T),)),
        Slot(out + "linear.bias", (rows,), (Fill(("ends", "head_bias"), None, lambda stored: stored[:columns]),)),
        *_ends_linear(out + "adaLN_modulation", "last_modulation", 2 * width, time_width),
    ]
    for i in range(architecture.layers):
        layer = f"{prefix}blocks.{i}."
        fused = tuple(block(part, "kernel", i, partial(_part, number, width)) for number, part in enumerate(PARTS))
        slots += [
            scale(layer + "norm1.weight", "norm_1", i, width, "LayerNorm"),
            Slot(layer + "attn_qkv.weight", (3 * width, width), fused),
            *linear(layer + "attn_out", "attention_out", i, width, width),
            scale(layer + "norm2.weight", "norm_2", i, width, "LayerNorm"),
            *linear(layer + "mlp.0", "up", i, 4 * width, width, bias=True),
            *linear(layer + "mlp.2", "down", i, width, 4 * width, bias=True),
            *linear(layer + "adaLN_modulation", "modulate", i, 6 * width, time_width, bias=True),
        ]
    return Description(
        architecture,
        tuple(slots),
        settings.integer("model_length", 1024),
        objective="masked",
        ignorable=("*rotary_emb.inv_freq", "*sampling_eps_min", "*sampling_eps_max"),
        zeros=(*(() if shape.timed else ("ends/time_in/kernel",)), "*/LayerNorm_0/bias"),
        writable=False,
    )


def _time(name: str, width: int, timed: bool) -> list[Slot]:
    """The embedding of the noise level. Without conditioning the level is 0: its cosines are 1 and its sines 0, so
    that the first layer is its bias and the sum of the columns for cosines, whatever t we give.
    """
    last = _ends_linear(name + "2", "time_out", width, width)
    if timed:
        return [*_ends_linear(name + "0", "time_in", width, FREQUENCIES), *last]
    bias = ("ends", "time_in", "bias")
    cosines = Fill(bias, None, lambda stored: stored[:, : FREQUENCIES // 2].sum(axis=1), adds=True)
    return [
        Slot(name + "0.weight", (width, FREQUENCIES), (cosines,)),
        Slot(name + "0.bias", (width,), (Fill(bias, None, unchanged, adds=True),)),
        *last,
    ]


def _ends_linear(name: str, module: str, outputs: int, inputs: int) -> list[Slot]:
    return [
        Slot(f"{name}.weight", (outputs, inputs), (Fill(("ends", module, "kernel"), None, transposed),)),
        Slot(f"{name}.bias", (outputs,), (Fill(("ends", module, "bias"), None, unchanged),)),
    ]


def _part(number: int, width: int, stored):
    return stored[number * width : (number + 1) * width].T
