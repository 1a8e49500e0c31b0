"""Text to token ids and back: bytes, any `tokenizers` JSON file, GPT-2's two files, or a BPE trained here."""

import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import tokenizers
from jaxtyping import Integer
from numpy.typing import ArrayLike

from mdlm_jax.errors import UserError
from mdlm_jax.files import write_whole

END_OF_TEXT = "<|endoftext|>"
# What published vocabularies call the token between two documents, the commonest first.
SEPARATORS = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "[SEP]")
GPT2_FILES = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))
JSON_FILE = "tokenizer.json"
BUILT_IN_FILE = "built_in.json"  # {"bytes": {}} or {"states": {"states": V}}


class Tokenizer(NamedTuple):
    """`encode` never yields the separator, whatever the text says; `decode` leaves it out."""

    encode: Callable[[str], Integer[np.ndarray, "n"]]
    decode: Callable[[ArrayLike], str]
    vocab_size: int  # V, the separator included
    separator: int  # the id between two documents; -1 where there are no documents
    fingerprint: str  # SHA-256 of everything that encode depends on
    files: dict[str, bytes]  # name -> content: what `save_tokenizer` writes and `open_tokenizer` reads


def open_tokenizer(name: str | os.PathLike) -> Tokenizer:
    """Opens a tokenizer.

    Args:
        name: `bytes`, the path of a `tokenizers` JSON file, or a folder. A folder holds tokenizer.json, or GPT-2's
            vocabulary and merges, or what `save_tokenizer` wrote.

    Raises:
        UserError: it is none of these, or the file cannot be read as one.
    """
    if name == "bytes":
        return byte_tokenizer()
    path = pathlib.Path(name).expanduser()
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise UserError(f"tokenizer {str(name)!r}: accepted are 'bytes', a tokenizers JSON file, or GPT-2's folder")
    return _open_json(path)


def save_tokenizer(tokenizer: Tokenizer, folder: str | os.PathLike) -> None:
    """Writes the tokenizer into a folder, from which `open_tokenizer` opens it with the same fingerprint."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in tokenizer.files.items():
        write_whole(folder / name, content)


def byte_tokenizer() -> Tokenizer:
    """UTF-8 bytes are tokens 0..255, and the separator is 256.

    A token of its own, not NUL or a form feed: a document may hold any byte, and none of them should end it.
    """

    def decode(ids: ArrayLike) -> str:
        ids = np.asarray(ids)
        return ids[ids < 256].astype(np.uint8).tobytes().decode("utf-8", errors="replace")

    return Tokenizer(
        encode=lambda text: np.frombuffer(text.encode("utf-8"), np.uint8),
        decode=decode,
        vocab_size=257,
        separator=256,
        fingerprint=_sha256(b"bytes"),
        files={BUILT_IN_FILE: b'{"bytes": {}}'},
    )


def state_tokenizer(states: int) -> Tokenizer:
    """The states of a synthetic source, written as decimal numbers."""
    return Tokenizer(
        encode=lambda text: np.array(text.split(), np.int32),
        decode=lambda ids: " ".join(map(str, np.asarray(ids).tolist())),
        vocab_size=states,
        separator=-1,
        fingerprint=_sha256(f"states {states}".encode()),
        files={BUILT_IN_FILE: json.dumps({"states": {"states": states}}).encode()},
    )


def train_bpe(documents: Iterable[str], size: int, path: str | os.PathLike) -> Tokenizer:
    """Trains a byte-level BPE of `size` tokens, separator included, and writes it to `path` as `tokenizers` JSON.

    Raises UserError when `size` cannot hold the 256 bytes and the separator, or the text is too small for it.
    """
    if size < 257:
        raise UserError(f"tokenizer size {size}: a byte-level BPE has at least 257 tokens, 256 bytes and a separator")
    model = _byte_level(tokenizers.models.BPE())
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(documents, trainer)
    if model.get_vocab_size() < size:
        raise UserError(f"tokenizer size {size}: the text only yields {model.get_vocab_size()} tokens")
    path = pathlib.Path(path).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, model.to_str(pretty=True))
    return open_tokenizer(str(path))


def _open_json(path: pathlib.Path) -> Tokenizer:
    content = path.read_bytes()
    try:
        return _wrap(tokenizers.Tokenizer.from_buffer(content), {JSON_FILE: content})
    except Exception as error:  # the library raises a bare Exception
        raise UserError(f"tokenizer {path}: not a tokenizers JSON file ({error})") from error


def _open_folder(folder: pathlib.Path) -> Tokenizer:
    if (folder / JSON_FILE).is_file():
        return _open_json(folder / JSON_FILE)
    if (folder / BUILT_IN_FILE).is_file():
        return _open_built_in(folder / BUILT_IN_FILE)
    return _gpt2(folder)


def _open_built_in(path: pathlib.Path) -> Tokenizer:
    try:
        ((name, arguments),) = json.loads(path.read_bytes()).items()
        return {"bytes": byte_tokenizer, "states": state_tokenizer}[name](**arguments)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"tokenizer {path} is damaged ({error!r})") from error


def _gpt2(folder: pathlib.Path) -> Tokenizer:
    pairs = [(folder / vocabulary, folder / merges) for vocabulary, merges in GPT2_FILES]
    files = next((pair for pair in pairs if all(file.is_file() for file in pair)), None)
    if files is None:
        accepted = " or ".join(" and ".join(pair) for pair in GPT2_FILES)
        raise UserError(f"tokenizer folder {folder} has none of {JSON_FILE}, {accepted}")
    try:
        bpe = tokenizers.models.BPE.from_file(*map(str, files))
    except Exception as error:  # the library raises a bare Exception
        raise UserError(f"tokenizer folder {folder}: not a BPE vocabulary ({error})") from error
    return _wrap(_byte_level(bpe), {name: file.read_bytes() for name, file in zip(GPT2_FILES[0], files, strict=True)})


def _byte_level(bpe: tokenizers.models.BPE) -> tokenizers.Tokenizer:
    """GPT-2's reading of text as bytes, split by its regular expression."""
    model = tokenizers.Tokenizer(bpe)
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    return model


def _wrap(model: tokenizers.Tokenizer, files: dict[str, bytes]) -> Tokenizer:
    model.no_truncation()
    model.no_padding()
    # Markup such as </s> inside a document is text like any other: only the packer writes separators.
    model.encode_special_tokens = True
    ids = (model.token_to_id(name) for name in SEPARATORS)
    separator = next((token for token in ids if token is not None), None)
    size = max(model.get_vocab(with_added_tokens=True).values()) + 1
    if separator is None:
        separator, size = size, size + 1

    def decode(ids: ArrayLike) -> str:
        return model.decode(
            [token for token in np.asarray(ids).tolist() if token != separator], skip_special_tokens=False
        )

    return Tokenizer(
        encode=lambda document: np.array(model.encode(document, add_special_tokens=False).ids, np.int32),
        decode=decode,
        vocab_size=size,
        separator=separator,
        fingerprint=_sha256(*files.values()),
        files=files,
    )


def _sha256(*contents: bytes) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents)).hexdigest()
