"""Public data that the tests compare with; README.md lists sources and licences."""

import csv
import functools
import io
import json
import lzma
import pathlib

import numpy as np

FOLDER = pathlib.Path(__file__).parent


@functools.cache
def golden(name: str) -> tuple[dict[str, np.ndarray], dict]:
    """(arrays, description) of the outputs of one public PyTorch code base."""
    folder = FOLDER / "golden"
    with np.load(io.BytesIO(lzma.decompress((folder / f"{name}.npz.xz").read_bytes()))) as file:
        arrays = {key: file[key] for key in file.files}
    return arrays, json.loads((folder / f"{name}.json").read_text())


def porian(name: str) -> list[dict[str, str]]:
    """The rows of one table of Porian et al. 2024."""
    with lzma.open(FOLDER / "porian" / f"{name}.csv.xz", "rt") as file:
        return list(csv.DictReader(file))


def write_gpt2(folder: pathlib.Path, vocabulary="encoder.json", merges="vocab.bpe") -> pathlib.Path:
    """Writes GPT-2's tokenizer into `folder`. Its ids are the bytes, then the merges in order, then the end of text."""
    text = lzma.decompress((FOLDER / "gpt2" / "vocab.bpe.xz").read_bytes()).decode()
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    names = [chr(byte) for byte in printable] + [chr(256 + place) for place in range(256 - len(printable))]
    names += [line.replace(" ", "") for line in text.splitlines()[1:] if line]
    names.append("<|endoftext|>")
    (folder / vocabulary).write_text(json.dumps({name: place for place, name in enumerate(names)}))
    (folder / merges).write_text(text, encoding="utf-8")
    return folder
