"""Answers to requests, appended to a file one line each, so that a killed run resumes."""

import hashlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from mdlm_jax.errors import UserError
from mdlm_jax.runs.restore import Run

FILE = "answers.jsonl"


class Answers:
    """The answers in a folder, by the key of their request. Memory holds where each is in the file, not the answer."""

    def __init__(self, folder: pathlib.Path) -> None:
        """Reads what the folder holds. A last line without its end is what a killed run left; it is cut off.

        Raises:
            UserError: The file cannot be read or written, or is damaged.
        """
        self.path = folder / FILE
        self.places: dict[str, int] = {}  # the first byte of each line
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.file = open(self.path, "a+b")  # noqa: SIM115  open as long as there are answers to add
            self.file.seek(0)
            end = 0
            for number, line in enumerate(self.file, start=1):
                if not line.endswith(b"\n"):
                    self.file.truncate(end)
                    break
                self.places[self._key(number, line)] = end
                end += len(line)
        except OSError as error:
            raise UserError(f"--out={folder}: cannot be written ({error.strerror}); accepted: a folder") from error

    def __contains__(self, key: str) -> bool:
        return key in self.places

    def __getitem__(self, key: str) -> dict[str, Any]:
        self.file.seek(self.places[key])
        answer = json.loads(self.file.readline())
        del answer["key"]
        return answer

    def add(self, answers: dict[str, dict[str, Any]]) -> None:
        """Appends answers, whole, before anything else is computed."""
        end = self.file.seek(0, os.SEEK_END)
        for key, answer in answers.items():
            self.places[key] = end
            end += self.file.write(json.dumps({"key": key, **answer}).encode() + b"\n")
        self.file.flush()

    def _key(self, number: int, line: bytes) -> str:
        try:
            return json.loads(line).pop("key")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{self.path}, line {number}: not an answer ({error}); delete the file") from error


def digest_of(run: Run) -> str:
    """SHA-256 of the parameters of the network and of its objective, by name."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path((run.params, run.objective_params)):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(array.view(np.uint8).data if array.ndim else array.tobytes())
    return digest.hexdigest()


def key_of(*described: Sequence[Any] | str | int) -> str:
    """The key of a request: SHA-256 of what its answer depends on."""
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:32]
