"""What a written folder says of itself: a model card, and training.json where a run trained it."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from mdlm_jax.weights.source import Source
from mdlm_jax.weights.tensors import shown

CARD, TRAINING = "README.md", "training.json"
OF_TRANSFORMERS = ("llama", "qwen2", "qwen3", "gpt2")  # kinds that transformers opens without code of a model's own


def records(source: Source, training: Mapping[str, Any] | None) -> dict[str, bytes]:
    """The model card and, for a trained model, training.json; by file name."""
    files = {CARD: card(source, training).encode()}
    if training is not None:
        files[TRAINING] = (json.dumps(training, indent=1) + "\n").encode()
    return files


def card(source: Source, training: Mapping[str, Any] | None) -> str:
    """A model card of the Hugging Face hub: a YAML head, then Markdown."""
    description, library = source.description, source.kind in OF_TRANSFORMERS
    head = ["library_name: transformers", "pipeline_tag: text-generation"] if library else []
    file = source.path.suffix in (".gguf", ".safetensors")
    name = shown(training["run"] if training else source.path.stem if file else source.path.name)
    rows = {
        "architecture": source.kind,
        "parameters": f"{sum(math.prod(slot.shape) for slot in description.slots):,}",
        "read as": _reading(source),
        "context": f"{description.context:,} tokens",
        "made from": shown(training["model"] if training else source.path.name),
    }
    if (tokenizer := source.files.get("tokenizer.json")) is not None:
        rows["SHA-256 of tokenizer.json"] = hashlib.sha256(tokenizer).hexdigest()
    if training is not None:
        rows |= _trained(training)
    lines = ["---", *head, "tags:", "- mdlm_jax", "---", f"# {name}", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in rows.items()]
    if training is not None:
        lines += ["", f"`{TRAINING}` has the config of the run, its evaluation, and digests of tokenizer and data."]
    return "\n".join(lines) + "\n"


def _reading(source: Source) -> str:
    description = source.description
    parts = [description.objective]
    if description.block_size:
        parts.append(f"in blocks of {description.block_size}")
    if description.shift:
        parts.append("each position predicts the next token")
    parts += [f"{key} {value}" for key, value in description.keys.items()]
    return ", ".join(parts)


def _trained(training: Mapping[str, Any]) -> dict[str, str]:
    rows = {"steps": f"{training['step']:,}", "tokens in training": f"{training['tokens']:,}"}
    rows |= {f"FLOPs, counter `{name}`": f"{count:.4g}" for name, count in training["flops"].items()}
    rows["digest of the data"] = training["data"] or "not kept"
    if (found := training["evaluation"]) is not None:
        sign = "=" if found["bound"] == "exact" else "<="
        rows["validation"] = f"{sign} {found['loss']:.4f} nats a token"
        rows["its standard error"] = f"{found['loss_standard_error']:.4f}"
    return rows
