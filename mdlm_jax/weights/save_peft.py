"""Writing low-rank adapters in the format of the library peft."""

import json
import pathlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from mdlm_jax.errors import UserError
from mdlm_jax.models.lora import Lora
from mdlm_jax.weights.folder import check_new_folder
from mdlm_jax.weights.peft import ADAPTER, WEIGHTS
from mdlm_jax.weights.safetensors_file import Stored, write_safetensors
from mdlm_jax.weights.slots import unchanged
from mdlm_jax.weights.source import Source
from mdlm_jax.whole_folder import whole_folder


def save_adapters(
    folder: pathlib.Path, source: Source, lora: Lora, down: Mapping[str, ArrayLike], up: Mapping[str, ArrayLike]
) -> None:
    """Writes adapters as a folder that peft and this package add to the model.

    Args:
        folder: A new or empty folder.
        source: The model.
        lora: Its adapters.
        down: A of each matrix, [layers, inputs, rank].
        up: B of each matrix, [layers, rank, outputs].

    Raises:
        UserError: The folder holds something or cannot be written, or the model stores a matrix with others in one
            tensor, which has one adapter in peft.
    """
    stored, modules, transposed = [], set(), False
    for slot in source.description.slots:
        for fill in slot.fills:
            matrix = fill.path[1] if fill.path[0] == "blocks" and fill.path[-1] == "kernel" else ""
            if matrix not in lora.matrices:
                continue
            if len(slot.fills) > 1:
                raise UserError(
                    f"model.lora_matrices has {matrix!r}, a part of {slot.name} in {source.kind}; "
                    "accepted for a folder of adapters: matrices that are tensors of their own"
                )
            module = slot.name.removesuffix(".weight")
            transposed = fill.view is unchanged
            modules.add(module.rpartition(".")[2])
            for half, factor in (("A", down[matrix]), ("B", up[matrix])):
                values = np.asarray(factor, np.float32)[fill.layer].T
                name = f"base_model.model.{module}.lora_{half}.weight"
                stored.append(Stored(name, "F32", values.shape, lambda values=values: values))
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(source.path.resolve()),
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": transposed,
        "target_modules": sorted(modules),
        "inference_mode": True,
    }
    check_new_folder(folder)
    with whole_folder(folder) as inside:
        write_safetensors(inside / WEIGHTS, stored, {"format": "pt"})
        (inside / ADAPTER).write_text(json.dumps(config, indent=2) + "\n")
        for name, content in source.files.items():
            (inside / name).write_bytes(content)
