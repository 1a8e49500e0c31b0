"""Text to token ids and back: bytes, any `tokenizers` JSON file, or GPT-2's two files."""

import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tokenizers
from jaxtyping import Integer
from numpy.typing import ArrayLike

from mdlm_jax.data.chat_template import SETTINGS, TEMPLATE
from mdlm_jax.data.codec import byte_level, open_codec
from mdlm_jax.errors import UserError
from mdlm_jax.files import expand_home, write_whole

GPT2_FILES = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))
JSON_FILE = "tokenizer.json"
CHAT_FILES = (TEMPLATE, SETTINGS)
TEXT_AND_CODES = "text_and_codes"  # file and key of a tokenizer of captions and images
NOT_READ = (
    "a SentencePiece or tiktoken file is not read; accepted: the tokenizer.json of the same model, which transformers "
    "writes: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(OTHER_FOLDER)"
)
BUILT_IN_FILE = "built_in.json"  # {"bytes": {}}, {"states": {"states": V}}, or the words and codes of captioned images


class Tokenizer(NamedTuple):
    """Text to ids and back. Encoding never yields the separator, whatever the text says; decoding leaves it out."""

    pieces: Callable[[str], Iterator[str]]  # consecutive; their ids one after another are those of the text
    encode_batch: Callable[[list[str]], list[Integer[np.ndarray, "n"]]]
    decode: Callable[[ArrayLike], str]
    vocab_size: int  # V, the separator included
    separator: int  # the id between two documents; -1 where there are no documents
    fingerprint: str  # SHA-256 of everything that encode depends on
    files: dict[str, bytes]  # name -> content: what `save_tokenizer` writes and `open_tokenizer` reads; a chat template

    def encode(self, text: str) -> Integer[np.ndarray, "n"]:
        """The ids of one text."""
        return self.encode_batch([text])[0]


def open_tokenizer(name: str | os.PathLike) -> Tokenizer:
    """Opens a tokenizer.

    Args:
        name: `bytes`, the path of a `tokenizers` JSON file, or a folder. A folder holds tokenizer.json, or GPT-2's
            vocabulary and merges, or what `save_tokenizer` wrote.

    Raises:
        UserError: It is none of these, or the file cannot be read as one.
    """
    if name == "bytes":
        return byte_tokenizer()
    path = expand_home(name)
    if path.is_dir():
        return _open_folder(path)
    if path.suffix in (".model", ".tiktoken"):
        raise UserError(f"tokenizer {path}: {NOT_READ}")
    if not path.is_file():
        raise UserError(f"tokenizer {str(name)!r}: accepted are 'bytes', a tokenizers JSON file, or GPT-2's folder")
    return _open_json(path)


def encode_given(where: str, text: str, tokenizer: Tokenizer) -> Integer[np.ndarray, "n"]:
    """The ids of a text that a user gives to a run.

    Raises:
        UserError: The tokenizer cannot read it (the states of a synthetic source). The message begins with `where`.
    """
    if not text:
        return np.zeros(0, np.int32)
    try:
        return np.asarray(tokenizer.encode(text), np.int32)
    except (ValueError, OverflowError) as error:
        raise UserError(f"{where}: the run's tokenizer cannot read it ({error})") from error


def save_tokenizer(tokenizer: Tokenizer, folder: str | os.PathLike) -> None:
    """Writes the tokenizer into a folder, from which `open_tokenizer` opens it with the same fingerprint."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in tokenizer.files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        write_whole(folder / name, content)


def byte_tokenizer() -> Tokenizer:
    """UTF-8 bytes are tokens 0..255, and the separator is 256.

    A token of its own, not NUL or a form feed: a document may hold any byte, and none of them should end it.
    """

    def decode(ids: ArrayLike) -> str:
        ids = np.asarray(ids)
        return ids[ids < 256].astype(np.uint8).tobytes().decode("utf-8", errors="replace")

    return Tokenizer(
        pieces=lambda text: (text[begin : begin + 2**20] for begin in range(0, max(len(text), 1), 2**20)),
        encode_batch=lambda texts: [np.frombuffer(text.encode("utf-8"), np.uint8) for text in texts],
        decode=decode,
        vocab_size=257,
        separator=256,
        fingerprint=_sha256(b"bytes"),
        files={BUILT_IN_FILE: b'{"bytes": {}}'},
    )


def state_tokenizer(states: int) -> Tokenizer:
    """The states of a synthetic source, written as decimal numbers."""
    return Tokenizer(
        pieces=lambda text: iter([text]),
        encode_batch=lambda texts: [np.array(text.split(), np.int32) for text in texts],
        decode=lambda ids: " ".join(map(str, np.asarray(ids).tolist())),
        vocab_size=states,
        separator=-1,
        fingerprint=_sha256(f"states {states}".encode()),
        files={BUILT_IN_FILE: json.dumps({"states": {"states": states}}).encode()},
    )


def words_and_codes_tokenizer(words: list[str], codes: int) -> Tokenizer:
    """Words of captions, then image codes, which text writes as #0, #1 ..: ids V_t + code."""
    names = [*words, *(f"#{code}" for code in range(codes))]
    number = {name: token for token, name in enumerate(names)}

    def encode(text: str) -> Integer[np.ndarray, "n"]:
        unknown = next((word for word in text.split() if word not in number), None)
        if unknown is not None:
            raise ValueError(f"{unknown!r}; accepted: {' '.join(words)}, #0 to #{codes - 1}")
        return np.array([number[word] for word in text.split()], np.int32)

    described = {"words_and_codes": {"words": list(words), "codes": codes}}
    return Tokenizer(
        pieces=lambda text: iter([text]),
        encode_batch=lambda texts: [encode(text) for text in texts],
        decode=lambda ids: " ".join(names[token] for token in np.asarray(ids).tolist()),
        vocab_size=len(names),
        separator=-1,
        fingerprint=_sha256(json.dumps(described).encode()),
        files={BUILT_IN_FILE: json.dumps(described).encode()},
    )


def not_read(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of a folder that hold a tokenizer in a format that is not read."""
    return sorted([*folder.glob("*.model"), *folder.glob("*.tiktoken")])


def _open_json(path: pathlib.Path) -> Tokenizer:
    content = path.read_bytes()
    try:
        return _wrap(content, {JSON_FILE: content})
    except Exception as error:  # the library raises a bare Exception
        raise UserError(f"tokenizer {path}: not a tokenizers JSON file ({' '.join(str(error).split())})") from error


def _open_folder(folder: pathlib.Path) -> Tokenizer:
    if (folder / f"{TEXT_AND_CODES}.json").is_file():
        from mdlm_jax.data.text_and_codes import open_text_and_codes, text_and_codes  # which opens that of its text

        return text_and_codes(*open_text_and_codes(folder))
    if (folder / JSON_FILE).is_file():
        opened = _open_json(folder / JSON_FILE)
        beside = {name: (folder / name).read_bytes() for name in CHAT_FILES if (folder / name).is_file()}
        return opened._replace(files=opened.files | beside)  # text is encoded without them
    if (folder / BUILT_IN_FILE).is_file():
        return _open_built_in(folder / BUILT_IN_FILE)
    return _gpt2(folder)


def _open_built_in(path: pathlib.Path) -> Tokenizer:
    try:
        ((name, arguments),) = json.loads(path.read_bytes()).items()
        return BUILT_IN[name](**arguments)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"tokenizer {path} is damaged ({error!r})") from error


BUILT_IN = {"bytes": byte_tokenizer, "states": state_tokenizer, "words_and_codes": words_and_codes_tokenizer}


def _gpt2(folder: pathlib.Path) -> Tokenizer:
    pairs = [(folder / vocabulary, folder / merges) for vocabulary, merges in GPT2_FILES]
    files = next((pair for pair in pairs if all(file.is_file() for file in pair)), None)
    if files is None:
        for file in not_read(folder):
            raise UserError(f"tokenizer {file}: {NOT_READ}")
        accepted = " or ".join(" and ".join(pair) for pair in GPT2_FILES)
        raise UserError(f"tokenizer folder {folder} has none of {JSON_FILE}, {accepted}")
    try:
        bpe = tokenizers.models.BPE.from_file(*map(str, files))
    except Exception as error:  # the library raises a bare Exception
        what = " ".join(str(error).split())
        raise UserError(f"tokenizer folder {folder}: not a BPE vocabulary ({what})") from error
    contents = {name: file.read_bytes() for name, file in zip(GPT2_FILES[0], files, strict=True)}
    return _wrap(byte_level(bpe).to_str(), contents)


def _wrap(content: str | bytes, files: dict[str, bytes]) -> Tokenizer:
    return Tokenizer(*open_codec(content), fingerprint=_sha256(*files.values()), files=files)


def _sha256(*contents: bytes) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents)).hexdigest()
