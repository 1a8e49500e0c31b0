"""A corpus of images reads as the pictures it was built from, by every tokenizer of captions."""

import numpy as np
import pytest

from mdlm_jax.data.build_images import build_images, held_out
from mdlm_jax.data.built_images import built_layout, open_images
from mdlm_jax.data.captioned import images_of
from mdlm_jax.data.corpus import manifest_digest, read_manifest
from mdlm_jax.data.digest import corpus_digest
from mdlm_jax.data.tokenizer import open_tokenizer, save_tokenizer
from mdlm_jax.errors import UserError
from mdlm_jax.image_tokenizers.store import made, open_image_tokenizer
from tests.data.made_pictures import caption, square, write_folder, write_tar

COUNT, TEXT_LENGTH = 150, 16
EIGHT_LEVELS = {"kind": "levels", "height": 8, "width": 8, "channels": 3, "patch": 1, "levels": 16}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    (folder / "levels.safetensors").write_bytes(made(EIGHT_LEVELS, {}).content)
    return {
        "images": str(write_folder(folder / "pictures", COUNT)),
        "image_tokenizer": str(folder / "levels.safetensors"),
    }


def build(output, files, **changed):
    options = {"field": "text", "tokenizer": "bytes", "text_length": TEXT_LENGTH, "resize": False, "faulty": "refuse"}
    return build_images(output, **(files | options | changed))


@pytest.fixture(scope="module")
def built(files, tmp_path_factory):
    output = tmp_path_factory.mktemp("built") / "corpus"
    return output, build(output, files)


def test_rows_are_captions_and_images(built, files):
    layout = built_layout(str(built[0]))
    assert (layout.text_vocab, layout.image_vocab, layout.length) == (257, 4096, TEXT_LENGTH + 64)
    splits, numbers = open_images(str(built[0]), layout.length), {False: [], True: []}
    for number in range(COUNT):
        numbers[held_out(square(number))].append(number)
    assert len(numbers[True]) > 1
    levels = open_image_tokenizer(files["image_tokenizer"])
    for rows, expected in ((splits.train, numbers[False]), (splits.validation, numbers[True])):
        assert rows.count == len(expected)
        tokens = rows.read(np.arange(rows.count))
        pictures = np.stack([square(number) for number in expected])
        np.testing.assert_array_equal(images_of(layout, tokens), levels.decode(levels.encode(pictures)))
        for row, number in zip(tokens, expected, strict=True):
            text = list(caption(number).encode())
            assert row[:TEXT_LENGTH].tolist() == text + [256] * (TEXT_LENGTH - len(text))
            # the text of a row is the row
            np.testing.assert_array_equal(
                splits.tokenizer.encode(splits.tokenizer.decode(row))[len(text) :], row[TEXT_LENGTH:]
            )


def test_manifest(built, files):
    manifest = read_manifest(built[0])
    assert manifest == built[1] and manifest_digest(manifest)
    tokenizer = manifest["tokenizer"]
    assert tokenizer["images_sha256"] == open_image_tokenizer(files["image_tokenizer"]).digest
    assert tokenizer["fingerprint"] == open_tokenizer(built[0] / "tokenizer").fingerprint
    assert sum(counts["documents"] for counts in manifest["splits"].values()) == COUNT


def test_the_digest_is_that_of_the_content(built, files, tmp_path):
    """A shard with the same pictures is the same corpus; other captions or another tokenizer are not."""

    def digest(folder):
        return corpus_digest("images", str(folder), "", "text")

    shard = {"images": str(write_tar(tmp_path / "a.tar", COUNT))}
    build(tmp_path / "tar", files | shard)
    assert digest(tmp_path / "tar") == digest(built[0])
    (tmp_path / "other.safetensors").write_bytes(made({**EIGHT_LEVELS, "levels": 15}, {}).content)
    build(tmp_path / "other", files | {"image_tokenizer": str(tmp_path / "other.safetensors")})
    assert digest(tmp_path / "other") != digest(built[0])


def test_text_of_rows(built, tmp_path):
    tokenizer = open_tokenizer(built[0] / "tokenizer")
    ids = tokenizer.encode("a<end><end> #0 #4095")
    assert ids.tolist() == [97, 256, 256, 257, 257 + 4095]
    assert tokenizer.decode(ids) == "a #0 #4095"
    with pytest.raises(ValueError, match="#4096; accepted: #0 to #4095"):
        tokenizer.encode("#4096")
    save_tokenizer(tokenizer, tmp_path / "saved")
    assert open_tokenizer(tmp_path / "saved").fingerprint == tokenizer.fingerprint
    layout = built_layout(str(built[0]))
    assert layout.prompt_of(ids[:1]).tolist() == [97] + [256] * (TEXT_LENGTH - 1)
    assert layout.prompt_of(ids[:0]).tolist() == []


@pytest.mark.parametrize(
    ("prompt", "text", "codes"),
    [
        ("a cat", b"a cat", []),
        ("a cat <end>", b"a cat ", []),
        ("a cat #7", b"a cat", [7]),
        ("a<end><end> #0 #9", b"a", [0, 9]),
        ("#7", b"", [7]),
        ("<end>" * TEXT_LENGTH, b"", []),
        ("n" * (TEXT_LENGTH - 1), b"n" * (TEXT_LENGTH - 1), []),
    ],
)
def test_prompts_begin_the_image_where_it_belongs(built, prompt, text, codes):
    layout = built_layout(str(built[0]))
    found = layout.prompt_of(layout.tokenizer().encode(prompt)).tolist()
    assert found == [*text, *[256] * (TEXT_LENGTH - len(text)), *(257 + code for code in codes)]


@pytest.mark.parametrize(
    ("prompt", "named"),
    [("n" * TEXT_LENGTH, "16 tokens of text; accepted: at most 15"), ("a #7 b", "accepted: text, then codes")],
)
def test_prompts_that_do_not_fit(built, prompt, named):
    layout = built_layout(str(built[0]))
    with pytest.raises(UserError, match=named):
        layout.prompt_of(layout.tokenizer().encode(prompt))


def test_long_captions_are_faults(files, tmp_path):
    with pytest.raises(UserError, match=r"line 2: long caption: 14 tokens; --text-length=14 leaves room for 13"):
        build(tmp_path / "a", files, text_length=14)
    manifest = build(tmp_path / "b", files, text_length=14, faulty="skip")
    assert manifest["skipped"] == {"long caption": sum(len(caption(number)) > 13 for number in range(COUNT))}
    with pytest.raises(UserError, match="'train' has no picture; left out: 150 .long caption."):
        build(tmp_path / "c", files, text_length=2, faulty="skip")
    few = {"images": str(write_folder(tmp_path / "few", 2))}
    with pytest.raises(UserError, match="about 1 image in 20 is held out, and none of these 2 is; accepted: more"):
        build(tmp_path / "d", files | few)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "few"]


def test_bad_corpora_are_refused(built, files, tmp_path):
    with pytest.raises(UserError, match="data.sequence_length=79; accepted: 80, the 16 positions of text and 64"):
        open_images(str(built[0]), 79)
    with pytest.raises(UserError, match="exists; accepted: the path of a new folder"):
        build(built[0], files)
    with pytest.raises(UserError, match="no images; accepted: a folder of"):
        built_layout(str(tmp_path))
