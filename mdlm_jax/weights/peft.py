"""Low-rank adapters in the format of the library peft, added to the matrices of the model that they belong to."""

import os
import pathlib
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mdlm_jax.errors import UserError
from mdlm_jax.files import expand_home
from mdlm_jax.weights.safetensors_file import open_safetensors
from mdlm_jax.weights.settings import Settings, read_json
from mdlm_jax.weights.tensors import FLOATS, Tensor, shown

ADAPTER, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
NAME = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")


class Adapters(NamedTuple):
    """The adapters of a folder."""

    base: pathlib.Path  # the model that they were trained on
    scale: float  # of each product B A
    transposed: bool  # the model stores its matrices as [in, out]
    rank: int
    tensors: dict[str, Tensor]
    file: pathlib.Path


def open_adapters(folder: pathlib.Path) -> Adapters:
    """Reads the configuration and the header of a folder of peft.

    Raises:
        UserError: The folder is damaged, its model is not in a local folder or file, or its adapters are more than a
            low-rank product for each matrix.
    """
    settings = Settings(read_json(folder / ADAPTER), folder / ADAPTER)
    settings.only("peft_type", "LORA")
    settings.only("bias", "none")
    for key in ("use_dora", "layer_replication", "modules_to_save", "rank_pattern", "alpha_pattern"):
        settings.only(key, None, False, [], {})
    base = settings.get("base_model_name_or_path", None)
    path = expand_home(base) if isinstance(base, str) else None
    if path is None or not os.path.exists(path):  # unlike Path.exists, also says no to names that no file can have
        settings.refuse("base_model_name_or_path", "the path of a model on this machine")
    if os.path.exists(path / ADAPTER):
        settings.refuse("base_model_name_or_path", "a model without adapters")
    rank, alpha = settings.integer("r"), settings.number("lora_alpha")
    scale = alpha / (rank**0.5 if settings.flag("use_rslora") else rank)
    tensors, _ = open_safetensors(folder / WEIGHTS)
    return Adapters(path, scale, settings.flag("fan_in_fan_out"), rank, tensors, folder / WEIGHTS)


def adapted(adapters: Adapters, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a model, W + scale B A where there are adapters: summed in float32, stored as W is.

    Args:
        adapters: The adapters.
        tensors: Those of the model, by their published names.

    Raises:
        UserError: An adapter has no matrix, lacks a half, or does not fit.

    Reference: LoRA, arXiv 2106.09685.
    """
    halves: dict[str, dict[str, Tensor]] = {}
    for name, tensor in adapters.tensors.items():
        found = NAME.fullmatch(name)
        if found is None or f"{found[1]}.weight" not in tensors:
            raise UserError(f"{adapters.file}: {shown(name)} is no adapter of a matrix of {adapters.base}")
        halves.setdefault(f"{found[1]}.weight", {})[found[2]] = tensor
    changed = {}
    for name, pair in halves.items():
        own = tensors[name]
        sides = own.shape[::-1] if adapters.transposed else own.shape
        expected = {"A": (adapters.rank, *sides[1:]), "B": (*sides[:1], adapters.rank)}
        for half, shape in expected.items():
            stored = pair.get(half)
            if stored is None or stored.shape != shape or stored.dtype not in FLOATS or own.dtype not in FLOATS:
                said = "nothing" if stored is None else f"{stored.dtype} {list(stored.shape)}"
                raise UserError(f"{adapters.file}: lora_{half} of {shown(name)} is {said}; accepted: {list(shape)}")
        changed[name] = own._replace(read=_sum(adapters, own, pair["A"], pair["B"]))
    return tensors | changed


def _sum(adapters: Adapters, own: Tensor, a: Tensor, b: Tensor) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        product = b.read().astype(np.float32) @ a.read().astype(np.float32)
        product = product.T if adapters.transposed else product
        return (own.read().astype(np.float32) + np.float32(adapters.scale) * product).astype(FLOATS[own.dtype])

    return read
