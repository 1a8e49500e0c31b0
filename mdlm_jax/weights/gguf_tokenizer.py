"""The tokenizer in a GGUF file's keys, as a tokenizers JSON file with the model's own pre-tokenizer."""

import json
from typing import Any

import numpy as np
import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from mdlm_jax.errors import UserError
from mdlm_jax.weights.gguf_file import GgufFile
from mdlm_jax.weights.tensors import shown

CONTROL, USER_DEFINED = 3, 4  # of tokenizer.ggml.token_type

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_2 = LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")


def _byte_level(use_regex: bool = True):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def _split_first(pattern: str):
    split = pre_tokenizers.Split(tokenizers.Regex(pattern), behavior="isolated")
    return pre_tokenizers.Sequence([split, _byte_level(use_regex=False)])


def _digits_first():
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _byte_level()])


# tokenizer.ggml.pre -> how text is cut before the merges
PRE_TOKENIZERS = {
    "gpt-2": _byte_level,
    "smollm": _digits_first,
    "starcoder": _digits_first,
    "refact": _digits_first,
    "command-r": _digits_first,
    "llama-bpe": lambda: _split_first(LLAMA_3),
    "qwen2": lambda: _split_first(QWEN_2),
}


def tokenizer_files(file: GgufFile) -> dict[str, bytes]:
    """tokenizer.json and tokenizer_config.json; nothing where the file has no tokenizer.

    Raises:
        UserError: The vocabulary contradicts itself, or its kind or pre-tokenizer is not known.
    """
    if "tokenizer.ggml.model" not in file.keys:
        return {}
    kind = file.keys["tokenizer.ggml.model"]
    tokens = _strings(file, "tokens")
    if len(set(tokens)) < len(tokens):
        raise UserError(f"{file.path}: tokenizer.ggml.tokens names a token twice")
    if kind == "gpt2":
        built = _byte_pairs(file, tokens)
    elif kind == "llama":
        built = _sentence_pieces(file, tokens)
    else:
        raise UserError(f"{file.path}: tokenizer.ggml.model is {shown(str(kind))!r}; accepted: gpt2, llama")
    types = _numbers(file, "token_type", len(tokens), 1)
    for token, kind_of_token in zip(tokens, types, strict=True):
        if kind_of_token in (CONTROL, USER_DEFINED) and token:
            added = AddedToken(token, special=bool(kind_of_token == CONTROL), normalized=False)
            (built.add_special_tokens if kind_of_token == CONTROL else built.add_tokens)([added])
    if built.get_vocab_size(with_added_tokens=True) != len(tokens):
        raise UserError(f"{file.path}: tokenizer.ggml.tokens cannot be read back as a vocabulary")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for name, own in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        token = file.keys.get(f"tokenizer.ggml.{own}_token_id")
        if isinstance(token, int) and token < len(tokens):
            config[f"{name}_token"] = tokens[token]
    template = file.keys.get("tokenizer.chat_template")
    if isinstance(template, str):
        config["chat_template"] = template
    return {
        "tokenizer.json": built.to_str().encode(),
        "tokenizer_config.json": (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode(),
    }


def _byte_pairs(file: GgufFile, tokens: list[str]) -> tokenizers.Tokenizer:
    pre = file.keys.get("tokenizer.ggml.pre")
    if not isinstance(pre, str) or pre not in PRE_TOKENIZERS:
        accepted = ", ".join(PRE_TOKENIZERS)
        raise UserError(f"{file.path}: tokenizer.ggml.pre is {shown(str(pre))!r}; accepted: {accepted}")
    ids = {token: number for number, token in enumerate(tokens)}
    merges = []
    for merge in _strings(file, "merges"):
        left, _, right = merge.partition(" ")
        if left not in ids or right not in ids or left + right not in ids:
            raise UserError(f"{file.path}: tokenizer.ggml.merges: {shown(merge)!r} is not of its tokens")
        merges.append((left, right))
    built = tokenizers.Tokenizer(models.BPE(ids, merges, ignore_merges=pre == "llama-bpe"))
    if pre == "qwen2":
        built.normalizer = normalizers.NFC()
    built.pre_tokenizer = PRE_TOKENIZERS[pre]()
    built.decoder = decoders.ByteLevel()
    return built


def _sentence_pieces(file: GgufFile, tokens: list[str]) -> tokenizers.Tokenizer:
    """SentencePiece's BPE: of two neighbours those are joined whose piece has the highest score."""
    scores = _numbers(file, "scores", len(tokens), None)
    ids = {token: number for number, token in enumerate(tokens)}
    merges = []
    for token, number in ids.items():
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in ids and right in ids:
                merges.append((-scores[number], ids[left], ids[right], left, right))
    merges.sort(key=lambda merge: merge[:3])
    unknown = file.keys.get("tokenizer.ggml.unknown_token_id", 0)
    unknown = tokens[unknown] if isinstance(unknown, int) and unknown < len(tokens) else None
    pairs = [(left, right) for *_, left, right in merges]
    model = models.BPE(ids, pairs, unk_token=unknown, fuse_unk=True, byte_fallback="<0x0A>" in ids)
    built = tokenizers.Tokenizer(model)
    prefix = bool(file.keys.get("tokenizer.ggml.add_space_prefix", True))
    steps = [normalizers.Prepend("▁")] if prefix else []
    built.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    built.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    return built


def _strings(file: GgufFile, name: str) -> list[str]:
    found = file.keys.get(f"tokenizer.ggml.{name}")
    if not isinstance(found, list) or not found:
        raise UserError(f"{file.path}: tokenizer.ggml.{name} is not a list of strings")
    return found


def _numbers(file: GgufFile, name: str, count: int, default: Any) -> list:
    found = file.keys.get(f"tokenizer.ggml.{name}")
    if found is None and default is not None:
        return [default] * count
    if not isinstance(found, np.ndarray) or len(found) != count or not np.isfinite(found).all():
        raise UserError(f"{file.path}: tokenizer.ggml.{name} is not one number for each of the {count} tokens")
    return found.tolist()
