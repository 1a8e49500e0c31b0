"""Compressed files: .gz, .xz and .zst."""

import gzip
import io
import lzma
import pathlib

COMPRESSED = (".gz", ".xz", ".zst")


def kind(file: pathlib.PurePath) -> str:
    """'.txt' for corpus.txt and for corpus.txt.xz."""
    return pathlib.PurePath(file.stem).suffix if file.suffix in COMPRESSED else file.suffix


def open_stream(source: pathlib.Path | io.BytesIO, suffix: str) -> io.BufferedIOBase:
    """The bytes of a file or of its content, decompressed.

    Args:
        source: The file, or what it holds.
        suffix: The suffix of its name; one of COMPRESSED says how it is compressed.
    """
    if suffix == ".gz":
        return gzip.open(source, "rb")
    if suffix == ".xz":
        return lzma.open(source, "rb")
    if suffix == ".zst":
        import pyarrow

        opened = str(source) if isinstance(source, pathlib.Path) else source
        # It reads all frames of a file, and raises an error where the last one is truncated.
        return io.BufferedReader(pyarrow.input_stream(opened, compression="zstd"))
    return open(source, "rb") if isinstance(source, pathlib.Path) else source
