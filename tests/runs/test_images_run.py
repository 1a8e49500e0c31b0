"""A run on a built corpus of images end to end, through the command line; sampled after its corpus is gone."""

import json
import shutil

import numpy as np
import pytest

import mdlm_jax as mj
from mdlm_jax.cli.main import main
from mdlm_jax.data.captioned import images_of
from mdlm_jax.errors import UserError
from mdlm_jax.runs.restore import open_run
from mdlm_jax.sampling.sample_run import sample_run
from tests.data.made_pictures import write_folder
from tests.runs.here import train_here

COUNT, TEXT_LENGTH = 150, 16


def exit_code(*words) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return ended.value.code or 0


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(run, corpus, what `image-tokenizer` printed)."""
    home = tmp_path_factory.mktemp("images")
    pictures, codes, corpus = write_folder(home / "pictures", COUNT), home / "codes.safetensors", home / "corpus"
    of_images = ["--kind=kmeans", "--size=8", "--side=8", "--patch=4", "--steps=20"]
    assert exit_code("data", "image-tokenizer", f"--images={pictures}", *of_images, f"--out={codes}") == 0
    options = [f"--image-tokenizer={codes}", f"--text-length={TEXT_LENGTH}"]
    assert exit_code("data", "build", f"--images={pictures}", *options, f"--out={corpus}") == 0
    data = {"data__source": "images", "data__path": str(corpus), "data__sequence_length": TEXT_LENGTH + 4}
    keys = {"model__learned_positions": TEXT_LENGTH + 4, "objective__name": "unified"}
    assert train_here(home / "run", steps=3, **keys, **data) is not None
    return home / "run", corpus


def test_evaluation(made):
    found = mj.evaluate(made[0], draws=2, sequences=4)
    assert found["bits_per_pixel"] is None and "kmeans loses part of an image" in found["no_bits_because"]
    assert found["tasks"]["joint"]["entropy"] is None and found["data"]["source"] == "images"
    found = mj.evaluate(made[0], retrieve=2, draws=2, sequences=4)
    assert found["choices"] == 2
    for task in ("text_given_image", "image_given_text"):
        for way in ("images", "captions"):
            one = found["retrieval"][task][way]
            assert 0 <= one["accuracy"] <= 1 and 0.5 <= one["chance"] < 1
    near = mj.evaluate(made[0], neighbours=True, sequences=4)
    assert near["training_images"] > 100 and 0 <= near["neighbours"]["drawn_nearer"] <= 1


def test_samples_need_no_corpus(made, tmp_path):
    run, corpus = made
    shutil.copytree(run, tmp_path / "run")
    hidden = corpus.rename(tmp_path / "hidden")
    try:
        opened = open_run(tmp_path / "run")
        (text,) = sample_run(tmp_path / "run", prompts=["a red square"], out=tmp_path / "out")
        with pytest.raises(UserError, match="evaluates .* on a corpus at another path"):
            mj.evaluate(tmp_path / "run", draws=2, sequences=4)
    finally:
        hidden.rename(corpus)
    _, row, *picture = text.splitlines()
    assert row.startswith("a red square #") and len(picture) == 8
    assert (tmp_path / "out" / "pictures.png").stat().st_size > 1000
    tokens = np.concatenate([opened.layout.prompt_of(opened.tokenizer.encode("a red square")), 257 + np.arange(4)])
    assert images_of(opened.layout, tokens[None]).shape == (1, 8, 8, 3)


def test_quality_is_printed(tmp_path, capsys):
    pictures = write_folder(tmp_path / "pictures", COUNT)
    words = ["data", "image-tokenizer", f"--images={pictures}", "--side=8", "--patch=1", "--kind=levels", "--levels=2"]
    assert exit_code(*words, f"--out={tmp_path / 'codes.safetensors'}") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["lossless"] and found["codes"] == 8 and found["tokens_per_image"] == 64
    assert found["held_out"]["codes_kept"] == 1 and (tmp_path / "codes.png").is_file()


@pytest.mark.parametrize("name", ["codes.safetensors", "codes.png"])
def test_no_file_is_overwritten(name, tmp_path, capsys):
    (tmp_path / name).write_text("kept")
    words = ["--images=mnist", "--side=8", "--patch=1", "--kind=levels", "--levels=2"]
    assert exit_code("data", "image-tokenizer", *words, f"--out={tmp_path / 'codes.safetensors'}") == 2
    assert f"{name} exists" in capsys.readouterr().err and [one.read_text() for one in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--text-length=4"], "--text-length: not read without --images"),
        (["--text-length=0"], "--text-length: not read without --images"),
        (["--image-tokenizer="], "--image-tokenizer: not read without --images"),
        (["--images=a"], "--images needs --image-tokenizer"),
        (["--images=a", "--image-tokenizer=b"], "--text-length=None; accepted with --images: 1 to"),
        (["--images=a", "--source=text"], "--source=text with --images"),
        (["--images=a", "--workers=2"], "--workers=2: not read with --images"),
    ],
)
def test_options_that_do_not_fit(words, named, tmp_path, capsys):
    assert exit_code("data", "build", f"--out={tmp_path / 'out'}", *words) == 2
    assert named in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--kind=kmeans"], "--size is missing; accepted with --kind=kmeans: --size"),
        (["--kind=fsq", "--levels=3,3", "--size=8"], "--size is 8, which is not read"),
        (["--kind=levels", "--levels=2,2"], "accepted with --kind=levels: one number"),
        (["--kind=levels", "--levels=2", "--steps=3"], "not read with --kind=levels"),
        (["--kind=fsq", "--levels=3,a"], "--levels='3,a'"),
        (["--kind=kmeans", "--size=8", "--side=8y8"], "--side='8y8'"),
        (["--kind=kmeans", "--size=8", "--patch=3"], "patch=3; accepted: a divisor"),
        (["--kind=kmeans", "--size=8", "--steps=0"], "--steps=0"),
        (["--kind=kmeans", "--size=8", "--out=a.json"], "has another suffix"),
    ],
)
def test_tokenizers_that_cannot_be(words, named, tmp_path, capsys):
    given = {"--images": "a", "--side": "8", "--patch": "4", "--out": f"{tmp_path}/a.safetensors"}
    given |= dict(word.split("=") for word in words)
    assert exit_code("data", "image-tokenizer", *(f"{name}={value}" for name, value in given.items())) == 2
    assert named in capsys.readouterr().err and not list(tmp_path.iterdir())
