"""What tests of public checkpoints share: our logits for token ids, and tiny folders with random weights."""

import json
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mdlm_jax.objectives.base import causal
from mdlm_jax.sampling.network import reading
from mdlm_jax.weights.load import Weights
from mdlm_jax.weights.safetensors_file import Stored, write_safetensors
from mdlm_jax.weights.settings import Settings
from mdlm_jax.weights.slots import Slot
from mdlm_jax.weights.source import FAMILIES
from mdlm_jax.weights.tensors import Tensor, dtype_name

LLAMA = {
    "model_type": "llama",
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e4,
    "tie_word_embeddings": False,
}


def first_position(weights: Weights) -> int:
    """The position of a row's first token: a table of positions begins with the start symbol's."""
    return int(weights.model.architecture.learned_positions > 0)


def logits_of(weights: Weights, ids, mask: Callable = causal) -> np.ndarray:
    """Our logits for whole rows of tokens."""
    ids = jnp.asarray(ids)
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1]) + first_position(weights), ids.shape)[..., None]
    view = reading(ids, positions, positions, jnp.zeros(len(ids)))
    hidden, _ = jax.jit(lambda params: weights.model.hidden(params, view, mask))(weights.params)
    return np.asarray(weights.model.head(weights.params, hidden))


def slots_of(config: dict) -> tuple[Slot, ...]:
    """The tensors that a configuration asks for."""
    none = Tensor(pathlib.Path(), (), "F32", lambda: np.zeros(()))
    absent = {f"tensor {number}": none for number in range(99)}
    return FAMILIES[config["model_type"]](Settings(config, pathlib.Path("config.json")), absent).slots


def random_tensors(config: dict, seed: int = 0, dtype=np.float32) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        slot.name: (generator.normal(size=slot.shape) * 0.3 + (len(slot.shape) == 1)).astype(dtype)
        for slot in slots_of(config)
    }


def write_folder(folder: pathlib.Path, config: dict, tensors: dict[str, np.ndarray]) -> pathlib.Path:
    """A checkpoint of one file, without a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    write_file(folder / "model.safetensors", tensors)
    return folder


def write_file(path: pathlib.Path, tensors: dict[str, np.ndarray]) -> None:
    stored = [
        Stored(name, dtype_name(values.dtype), values.shape, lambda values=values: values)
        for name, values in tensors.items()
    ]
    write_safetensors(path, stored, {"format": "pt"})
