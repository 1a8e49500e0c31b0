"""A run of `unified` end to end, and the table of the documentation against its stored result."""

import json

import numpy as np
import pytest
from matplotlib.image import imread

from mdlm_jax.data.captioned import images_of, layout_of
from mdlm_jax.data.shapes import captioned_shapes, entropies
from mdlm_jax.errors import UserError
from mdlm_jax.runs.evaluate import evaluate_run
from mdlm_jax.runs.restore import open_run
from mdlm_jax.sampling.run_sampler import usual_samplers
from mdlm_jax.sampling.sample_run import sample_run
from tests.run_folders import ROOT
from tests.runs.here import train_here

STORED = ROOT / "experiments" / "results" / "unified_shapes.json"
PAGE = ROOT / "docs" / "theory" / "text-and-images.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("unified") / "run"
    data = {"data__source": "shapes", "data__path": "patch=2", "data__sequence_length": 13}
    tasks = {"objective__name": "unified", "objective__tasks": "joint=0.5,image_given_text=0.3,text_given_image=0.2"}
    result = train_here(home, steps=3, model__learned_positions=13, **data, **tasks)
    assert result is not None and result.bound == "upper" and result.bits_per_byte is None
    return home


def test_evaluation_has_every_task(folder):
    """The joint task is what the run reports; each task has its entropy beside it."""
    found = evaluate_run(folder, draws=None, sequences=None)
    assert found["tasks"]["joint"]["nats_per_token"] == pytest.approx(found["nats_per_token"], rel=1e-6)
    known = entropies(captioned_shapes().joint)._asdict()
    assert {name: task["entropy"] for name, task in found["tasks"].items()} == known
    parts = {name: task["nats_per_row"] for name, task in found["tasks"].items()}
    assert found["agreement"]["text_first"] == pytest.approx(parts["text"] + parts["image_given_text"])
    assert found["agreement"]["image_first"] == pytest.approx(parts["image"] + parts["text_given_image"])
    assert found["bits_per_pixel"]["image"] == pytest.approx(parts["image"] / np.log(2) / 36)


@pytest.mark.parametrize(("order", "tasks"), [("image_first", 3), ("flipped", 5)])
def test_autoregressive_baseline(tmp_path, order, tasks):
    """`ar` on the same rows: exact nats of the tasks that its order answers, and of all with rows of both orders."""
    data = {"data__source": "shapes", "data__path": "patch=2", "data__sequence_length": 13}
    train_here(
        tmp_path / "run", steps=3, model__learned_positions=13, **data, objective__name="ar", objective__order=order
    )
    found = evaluate_run(tmp_path / "run", draws=None, sequences=None)
    assert found["bound"] == "exact" and len(found["tasks"]) == tasks
    assert found["tasks"]["joint"]["nats_per_token"] == pytest.approx(found["nats_per_token"], rel=1e-6)
    parts = {name: task["nats_per_row"] for name, task in found["tasks"].items()}
    marginal, conditional = ("image", "text_given_image") if order == "image_first" else ("text", "image_given_text")
    assert parts["joint"] == pytest.approx(parts[marginal] + parts[conditional], rel=1e-5)
    if order == "image_first":
        with pytest.raises(UserError, match="order"):
            next(sample_run(tmp_path / "run", prompts=["a red square left"]))
    else:
        (text,) = sample_run(tmp_path / "run", prompts=["a red square left"], count=1)
        assert "#" in text


def test_training_log_has_every_task(folder):
    """Nats a row of the tasks that are trained."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found = [{name for name in line if name.endswith("_nats_per_row")} for line in lines if "loss" in line]
    trained = {f"{task}_nats_per_row" for task in ("joint", "image_given_text", "text_given_image")}
    assert found and all(names == trained for names in found)


@pytest.mark.parametrize(
    ("prompt", "mask_token"), [("a red square left", ""), ("<mask:4> #85 #17 #0 #5 #1 #0 #0 #0 #0", "<mask>")]
)
def test_samples_are_captioned_images(folder, prompt, mask_token):
    """Even a network that has hardly been trained puts words and codes where they belong."""
    (text,) = sample_run(folder, prompts=[prompt], mask_token=mask_token, count=1)
    _, row, *picture = text.splitlines()
    tokens, layout = open_run(folder).tokenizer.encode(row), layout_of("shapes", "patch=2")
    assert (tokens[:4] < layout.text_vocab).all()
    assert picture == ["".join(2 * ".rgb"[level] for level in line) for line in images_of(layout, tokens[None])[0]]


def test_fields_of_unmasking_need_no_sampler(folder):
    """The usual sampler unmasks: at temperature 0 all samples of one masked position are the same."""
    assert usual_samplers(open_run(folder))[0] == "ancestral"
    prompt = "a red <mask> left #85 #17 #0 #5 #1 #0 #0 #0 #0"
    (text,) = sample_run(folder, prompts=[prompt], mask_token="<mask>", fields={"temperature": 0.0}, count=4)
    assert len({line for line in text.splitlines() if line.startswith("a red")}) == 1


def test_guided_samples_have_pictures(folder, tmp_path):
    """A caption guides its image, also with a mask in it; without a caption there is nothing to be guided by."""
    more = {"sampler": "ancestral:guidance=2,guidance_ramp=true,guidance_max_time=0.9", "out": tmp_path / "out"}
    prompt = "a <mask> square left <mask:9>"
    (text,) = sample_run(folder, prompts=[prompt], mask_token="<mask>", count=2, **more)
    assert text.count("square left") == 2
    image = imread(tmp_path / "out" / "pictures.png")
    assert image.ndim == 3 and (tmp_path / "out" / "replay.html").is_file()
    with pytest.raises(UserError, match="no token of the other modality"):
        next(sample_run(folder, prompts=[""], sampler="ancestral:guidance=2"))


def test_page_matches_the_stored_result():
    stored, page = json.loads(STORED.read_text()), PAGE.read_text()
    known = entropies(captioned_shapes().joint)._asdict()
    for name, task in stored["tasks"].items():
        above = (task["nats_per_row"] - known[name]) / task["tokens"]
        numbers = (known[name], task["nats_per_row"], task["standard_error"])
        assert f"| `{name}` | {' | '.join(f'{value:.4f}' for value in numbers)} | {above:+.4f} |" in page
        assert above < 0.02 and task["nats_per_row"] > known[name] - 3 * task["standard_error"]
    for heading, name in [
        ("H(T, I)", "joint"),
        ("H(T)", "text"),
        ("H(I)", "image"),
        ("H(T given I)", "text_given_image"),
        ("H(I given T)", "image_given_text"),
    ]:
        assert f"| {heading} | {known[name]:.4f} |" in page
