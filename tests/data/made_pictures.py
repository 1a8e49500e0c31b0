"""Pictures that tests write: squares of one colour, with captions."""

import io
import json
import pathlib
import tarfile

import numpy as np
from PIL import Image

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


def square(number: int) -> np.ndarray:
    """An 8 x 8 image whose colour is that of `caption`, and whose first pixel tells it from the others."""
    pixels = np.full((8, 8, 3), COLOURS[caption(number).split()[1]], np.uint8)
    pixels[0, 0] = number % 256, number // 256, 128
    return pixels


def caption(number: int) -> str:
    return f"a {list(COLOURS)[number % 4]} square"


def png(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def write_folder(folder: pathlib.Path, count: int) -> pathlib.Path:
    """A folder of PNG files and metadata.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        (folder / f"{number:04}.png").write_bytes(png(square(number)))
        rows.append({"file_name": f"{number:04}.png", "text": caption(number)})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def write_tar(path: pathlib.Path, count: int) -> pathlib.Path:
    """A shard of WebDataset: captions of even numbers in .txt, those of odd ones in .json."""
    with tarfile.open(path, "w") as tar:
        for number in range(count):
            told = (".txt", caption(number)) if number % 2 == 0 else (".json", json.dumps({"text": caption(number)}))
            for suffix, content in ((".png", png(square(number))), (told[0], told[1].encode())):
                member = tarfile.TarInfo(f"part/{number:04}{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def write_parquet(path: pathlib.Path, count: int) -> pathlib.Path:
    """Images inside the table, as `datasets` writes them."""
    import pyarrow
    import pyarrow.parquet

    images = [{"bytes": png(square(number)), "path": None} for number in range(count)]
    table = pyarrow.table({"image": images, "text": [caption(number) for number in range(count)]})
    pyarrow.parquet.write_table(table, path)
    return path
