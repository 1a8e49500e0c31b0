"""What a path holds: a Hugging Face folder, a safetensors file or a GGUF file. Nothing is loaded yet."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

from mdlm_jax.errors import UserError
from mdlm_jax.files import expand_home
from mdlm_jax.weights.description import Description
from mdlm_jax.weights.dit import bd3lm, mdlm, sedd
from mdlm_jax.weights.folder import open_tensors
from mdlm_jax.weights.gguf_model import open_gguf
from mdlm_jax.weights.gpt2 import gpt2
from mdlm_jax.weights.llada import llada
from mdlm_jax.weights.llama import dream, llama, qwen2, qwen3, sdar
from mdlm_jax.weights.peft import ADAPTER, adapted, open_adapters
from mdlm_jax.weights.safetensors_file import open_safetensors
from mdlm_jax.weights.settings import Settings, read_json
from mdlm_jax.weights.slots import check_tensors
from mdlm_jax.weights.smdm import infer_settings, smdm
from mdlm_jax.weights.tensors import Tensor

CONFIG = "config.json"
# `model_type` of a configuration -> what it describes
FAMILIES: dict[str, Callable[[Settings, dict[str, Tensor]], Description]] = {
    "llama": llama,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "gpt2": gpt2,
    "llada": llada,
    "Dream": dream,
    "sdar": sdar,
    "smdm": smdm,
    "mdlm": mdlm,
    "bd3lm": bd3lm,
    "sedd": sedd,
}


class Source(NamedTuple):
    """A checkpoint that was found whole."""

    path: pathlib.Path
    config: dict[str, Any]
    description: Description
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    files: dict[str, bytes]  # the small files beside the weights, by name: tokenizer, chat template, generation
    kind: str  # a key of FAMILIES


SMALL_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
    "vocab.json",
    "merges.txt",
)


def holds_weights(path: pathlib.Path) -> bool:
    """Whether the path is a public checkpoint rather than the folder of a run."""
    if path.is_file():
        return path.suffix in (".gguf", ".safetensors")
    return path.is_dir() and any(path.glob("*.safetensors"))


def open_source(path: pathlib.Path) -> Source:
    """Opens a checkpoint and compares it with its configuration.

    Args:
        path: A folder with config.json, a .safetensors file with config.json beside it, a .gguf file, or a folder of
            peft with adapters, which are added to the matrices of their model.

    Raises:
        UserError: Something is missing, contradicts itself, or is not computed here; file and tensor are named.
    """
    path = expand_home(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; accepted: a folder, a .safetensors or a .gguf file")
    if (path / ADAPTER).is_file():
        adapters = open_adapters(path)
        config, tensors, metadata, files = _opened(adapters.base)
        found = _checked(adapters.base, config, adapted(adapters, tensors), metadata, files | _small_files(path))
        return found._replace(path=path)
    return _checked(path, *_opened(path))


def _opened(path: pathlib.Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, str], dict[str, bytes]]:
    """Configuration, tensors, metadata and small files."""
    if path.suffix == ".gguf":
        return open_gguf(path)
    if path.is_file() and path.suffix != ".safetensors":
        raise UserError(f"{path}: not a checkpoint by its name; accepted: a folder, a .safetensors or a .gguf file")
    folder = path if path.is_dir() else path.parent
    tensors, metadata = open_tensors(path) if path.is_dir() else open_safetensors(path)
    config = read_json(folder / CONFIG) if (folder / CONFIG).exists() else infer_settings(tensors, path)
    return config, tensors, metadata, _small_files(folder)


def _small_files(folder: pathlib.Path) -> dict[str, bytes]:
    return {name: _read(folder / name) for name in SMALL_FILES if (folder / name).is_file()}


def _checked(path, config: dict, tensors: dict[str, Tensor], metadata: dict[str, str], files: dict[str, bytes]):
    settings = Settings(config, path / CONFIG if path.is_dir() else path)
    kind = config.get("model_type", "sedd" if "graph" in config else None)  # SEDD's configuration names no type
    if not isinstance(kind, str) or kind not in FAMILIES:
        settings.refuse("model_type", ", ".join(FAMILIES))
    settings.only("quantization_config", None)
    description = FAMILIES[kind](settings, tensors)
    check_tensors(path, description.slots, tensors, description.ignorable)
    return Source(path, config, description, tensors, metadata, files, kind)


def _read(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
