"""Answers to requests, appended to a file one line each, so that a killed run resumes."""

import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from mdlm_jax.errors import UserError
from mdlm_jax.runs.restore import Run

FILE = "answers.jsonl"


class Answers:
    """The answers in a folder, by the key of their request."""

    def __init__(self, folder: pathlib.Path) -> None:
        """Reads what the folder holds. A last line without its end is what a killed run left; it is cut off.

        Raises:
            UserError: The file cannot be read or written, or is damaged.
        """
        self.path = folder / FILE
        self.known: dict[str, dict[str, Any]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            content = self.path.read_bytes() if self.path.exists() else b""
            whole = content[: content.rfind(b"\n") + 1]
            if len(whole) < len(content):
                with open(self.path, "r+b") as file:
                    file.truncate(len(whole))
            self.file = open(self.path, "ab")  # noqa: SIM115  open as long as there are answers to add
        except OSError as error:
            raise UserError(f"--out={folder}: cannot be written ({error.strerror}); accepted: a folder") from error
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                answer = json.loads(line)
                self.known[answer.pop("key")] = answer
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UserError(f"{self.path}, line {number}: not an answer ({error}); delete the file") from error

    def add(self, answers: dict[str, dict[str, Any]]) -> None:
        """Appends answers, whole, before anything else is computed."""
        for key, answer in answers.items():
            self.file.write(json.dumps({"key": key, **answer}).encode() + b"\n")
        self.file.flush()
        self.known.update(answers)


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
