"""What a checkpoint's configuration says: the network, its tensors, and how it was trained."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from mdlm_jax.models.architecture import Architecture
from mdlm_jax.weights.settings import Settings
from mdlm_jax.weights.slots import Fill, Path, Slot, View, transposed, unchanged

EMBEDDING: Path = ("ends", "embedding", "embedding")
HEAD: Path = ("ends", "head")


class Description(NamedTuple):
    architecture: Architecture
    slots: tuple[Slot, ...]
    context: int  # the longest row it was made for
    objective: str = "ar"  # ar | masked
    mask_id: int | None = None  # the token of its vocabulary that masks; None: none, or the row behind the vocabulary
    block_size: int = 0  # autoregressive over blocks of so many tokens; 0: no blocks
    shift: bool = False  # a position predicts the token after the one it reads
    ignorable: tuple[str, ...] = ()  # patterns of tensors that hold no weights
    zeros: tuple[str, ...] = ()  # patterns of leaves that no tensor fills, and that are zero
    writable: bool = True  # the tree holds all that is in the tensors
    keys: Mapping[str, Any] = {}  # further keys of `config.objective`: how it was trained


def block(module: str, leaf: str, layer: int, view: View = unchanged, adds: bool = False) -> Fill:
    """A leaf of one layer."""
    return Fill(("blocks", module, leaf), layer, view, adds=adds)


def linear(name: str, module: str, layer: int, outputs: int, inputs: int, bias: bool = False) -> list[Slot]:
    """A matrix stored as [out, in], and its bias."""
    slots = [Slot(f"{name}.weight", (outputs, inputs), (block(module, "kernel", layer, transposed),))]
    if bias:
        slots.append(Slot(f"{name}.bias", (outputs,), (block(module, "bias", layer),)))
    return slots


def scale(name: str, module: str, layer: int, width: int, kind: str = "RMSNorm") -> Slot:
    """The weight of a norm in a layer; Flax names what is inside the norm by its kind."""
    return Slot(name, (width,), (Fill(("blocks", module, f"{kind}_0", "scale"), layer, unchanged),))


def last_scale(name: str, width: int, kind: str = "RMSNorm") -> Slot:
    """The weight of the norm before the head."""
    return Slot(name, (width,), (Fill(("ends", "norm", f"{kind}_0", "scale"), None, unchanged),))


def embedding(name: str, rows: int, width: int, mask_id: int | None) -> Slot:
    """The embedding. The tree's last row, which samplers read as the mask, repeats that of `mask_id`."""
    fills = (Fill(EMBEDDING, None, unchanged),)
    if mask_id is not None:
        fills += (Fill(EMBEDDING, None, lambda stored: stored[mask_id : mask_id + 1], row=rows),)
    return Slot(name, (rows, width), fills)


def head(name: str, rows: int, width: int, tied: bool) -> Slot:
    """The head as [V, D]; a tied one that is stored all the same repeats the embedding."""
    fill = Fill(EMBEDDING, None, unchanged) if tied else Fill(HEAD, None, transposed)
    return Slot(name, (rows, width), (fill,))


def count_layers(settings: Settings, key: str, tensors: dict) -> int:
    """The number of layers; refused where there are fewer tensors than that, so that none are listed in vain."""
    layers = settings.integer(key)
    if layers > max(len(tensors), 1):
        settings.refuse(key, f"at most the number of tensors, {len(tensors)}")
    return layers
