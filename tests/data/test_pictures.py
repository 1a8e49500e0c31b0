"""Every source of pictures gives the same pixels and captions; what is faulty is named, refused or counted."""

import json

import numpy as np
import pytest
from PIL import Image

from mdlm_jax.data.pictures import Picture, picture_files, read_pictures
from mdlm_jax.data.pixels import Fault, Faults, captioned_pixels, pixels_of
from mdlm_jax.errors import UserError
from tests.data.made_pictures import caption, png, square, write_folder, write_parquet, write_tar

SHAPE = (8, 8, 3)


def read(path, faulty="refuse", resize=False, shape=SHAPE):
    faults = Faults(faulty)
    return list(captioned_pixels(str(path), "text", shape, resize, faults)), faults


@pytest.mark.parametrize("write", [write_folder, write_tar, write_parquet])
def test_sources_agree(write, tmp_path):
    suffix = {write_tar: ".tar", write_parquet: ".parquet"}.get(write, "")
    found, faults = read(write(tmp_path / f"pictures{suffix}", 9))
    assert not faults.counts and [picture.caption for picture in found] == list(map(caption, range(9)))
    np.testing.assert_array_equal([picture.pixels for picture in found], list(map(square, range(9))))


def test_tfds(tmp_path):
    import tensorflow_datasets as tfds

    identity = tfds.core.dataset_info.DatasetIdentity(
        name="squares", version=tfds.core.Version("1.0.0"), data_dir=str(tmp_path), module_name=__name__
    )
    image = tfds.features.Image(shape=SHAPE, encoding_format="png")
    features = tfds.features.FeaturesDict({"image": image, "text": tfds.features.Text()})
    info = tfds.core.DatasetInfo(builder=identity, description="", features=features)
    writer = tfds.core.SequentialWriter(info, 16, file_format="array_record")
    writer.initialize_splits(["train"])
    writer.add_examples({"train": [{"image": png(square(number)), "text": caption(number)} for number in range(4)]})
    writer.close_all()
    found, _ = read(f"tfds:{tmp_path}")
    assert [picture.caption for picture in found] == list(map(caption, range(4)))
    np.testing.assert_array_equal([picture.pixels for picture in found], list(map(square, range(4))))
    with pytest.raises(UserError, match="has the fields .*; accepted: with words"):
        list(read_pictures(f"tfds:{tmp_path}", "words"))


@pytest.fixture
def faulty_folder(tmp_path):
    """Six good pictures, and one of each fault."""
    folder = write_folder(tmp_path / "pictures", 6)
    (folder / "cut.png").write_bytes(png(square(7))[:60])
    (folder / "text.png").write_text("no image")
    (folder / "wide.png").write_bytes(png(np.zeros((8, 9, 3), np.uint8)))
    (folder / "unnamed.png").write_bytes(png(square(8)))
    rows = [{"file_name": f"{name}.png", "text": "a"} for name in ("cut", "text", "wide", "absent")]
    rows += [{"file_name": "0001.png", "text": " "}, {"file_name": "0002.png"}, {"file_name": "0003.png", "text": 3}]
    with open(folder / "metadata.jsonl", "a") as table:
        table.writelines(json.dumps(row) + "\n" for row in rows)
    return folder


def test_faults_are_skipped_and_counted(faulty_folder, capsys):
    found, faults = read(faulty_folder, "skip")
    assert len(found) == 6
    assert faults.counts == {"damaged": 2, "size": 1, "no image": 1, "no caption": 4}
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5 and "metadata.jsonl, line 7 is left out: damaged: " in lines[0]


def test_the_first_fault_is_refused(faulty_folder):
    with pytest.raises(UserError, match="line 7: damaged: .*; --faulty=skip leaves such pictures out"):
        read(faulty_folder)


def test_resize_cuts_the_middle():
    """Twice as wide: the outer quarters go, and the rest is scaled."""
    wide = np.random.default_rng(0).integers(256, size=(8, 16, 3)).astype(np.uint8)
    picture = Picture("here", png(wide), "a")
    found = pixels_of(picture, (4, 4, 3), resize=True)
    expected = Image.fromarray(wide).resize((4, 4), Image.Resampling.LANCZOS, box=(4, 0, 12, 8))
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(Fault, match=r"8 x 16 pixels, not 4 x 4; --resize"):
        pixels_of(picture, (4, 4, 3), resize=False)


def test_modes_of_images(tmp_path):
    """Transparent pixels are white, palettes and greys are converted, and 16 bits are refused."""
    clear = np.zeros((8, 8, 4), np.uint8)
    assert (pixels_of(Picture("", png(clear), ""), SHAPE, False) == 255).all()
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    np.testing.assert_array_equal(pixels_of(Picture("", png(grey), ""), (8, 8, 1), False)[..., 0], grey)
    assert pixels_of(Picture("", png(grey), ""), SHAPE, False).shape == SHAPE
    Image.fromarray(square(0)).quantize(4).save(tmp_path / "palette.png")
    assert pixels_of(Picture("", tmp_path / "palette.png", ""), SHAPE, False)[4, 4].tolist() == [255, 0, 0]
    with pytest.raises(Fault, match="more than 8 bits"):
        pixels_of(Picture("", png(np.zeros((8, 8), np.uint16)), ""), SHAPE, False)


@pytest.mark.parametrize("image", [5, 1.5, True, [1, 2], [], {"bytes": 5}, {"path": ["a"]}, "\0", "\ud800", "n" * 300])
def test_what_is_no_image(image, tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"image": image, "text": "a"}))
    found, faults = read(tmp_path / "a.jsonl", "skip")
    assert not found and faults.counts == {"damaged": 1}


def test_other_spellings_of_a_path(tmp_path, monkeypatch):
    """An absolute path, and one with .., name the image that lies in the folder; a second table is not read."""
    folder = write_folder(tmp_path / "pictures", 3)
    names = [str(folder / "0000.png"), "../pictures/0001.png", "0002.png"]
    (folder / "metadata.jsonl").write_text("".join(json.dumps({"image": name, "text": "a"}) + "\n" for name in names))
    (folder / "metadata.parquet").write_text("not read")
    monkeypatch.chdir(tmp_path)
    assert len(read("pictures")[0]) == 3


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("", "names no pictures"),
        ("{tmp}/absent", "no file matches"),
        ("{tmp}", "names no pictures"),
        ("{tmp}/a.txt", "names no pictures"),
        ("{tmp}/bad.jsonl", "line 1: not JSON"),
        ("{tmp}/list.jsonl", "line 1: a row is a list"),
        ("{tmp}/bad.parquet", "cannot be read as parquet"),
        ("{tmp}/bad.tar", "cannot be read"),
        ("tfds:no/such", "no such dataset"),
    ],
)
def test_bad_sources_are_refused(path, named, tmp_path):
    for name, content in {
        "a.txt": "a",
        "bad.jsonl": "{",
        "list.jsonl": "[1]",
        "bad.parquet": "a",
        "bad.tar": "a",
    }.items():
        (tmp_path / name).write_text(content)
    if path == "{tmp}":
        (tmp_path / "empty").mkdir()
        path = "{tmp}/empty"
    with pytest.raises(UserError) as error:
        list(read_pictures(path.format(tmp=tmp_path), "text"))
    assert named in str(error.value) or "no file matches" in str(error.value)


def test_a_folders_own_table_comes_first(tmp_path):
    folder = write_folder(tmp_path / "pictures", 2)
    write_tar(folder / "more.tar", 2)
    assert picture_files(str(folder)) == (folder / "metadata.jsonl",)
