"""Files of JSON lines that appear when they are whole."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, BinaryIO

SCORES, TEXTS, ITEMS = "scores.jsonl", "texts.jsonl", "items.jsonl"


class Lines:
    """A file that is written one line after another beside its place, and moved there at the end."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.file: BinaryIO | None = None
        self.beside = path.with_name(f".{path.name}.partial")

    def add(self, row: Mapping[str, Any]) -> None:
        """Adds a line."""
        self._opened().write(json.dumps(row).encode() + b"\n")

    def finish(self) -> None:
        """Puts the file in its place, empty if it has no line.

        Raises:
            OSError: It cannot be written.
        """
        self._opened().close()
        os.replace(self.beside, self.path)

    def _opened(self) -> BinaryIO:
        if self.file is None:
            self.file = self.beside.open("wb")
        return self.file
