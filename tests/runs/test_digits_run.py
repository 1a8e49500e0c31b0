"""A run on captioned digits end to end, and the table of the documentation against its stored results."""

import json

import pytest

import mdlm_jax as mj
from mdlm_jax.data.digits import undecided_nats
from mdlm_jax.errors import UserError
from mdlm_jax.runs.classify import classify_run
from mdlm_jax.runs.evaluate import evaluate_run
from mdlm_jax.sampling.sample_run import sample_run
from tests.run_folders import ROOT
from tests.runs.here import train_here

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("digits") / "run"
    data = {"data__source": "digits", "data__path": "patch=2,levels=2", "data__sequence_length": 19}
    assert train_here(home, steps=3, model__learned_positions=19, objective__name="unified", **data) is not None
    return home


def test_classification(folder):
    """A network that has hardly been trained is near one in ten; logistic regression knows most digits."""
    found = classify_run(folder, draws=2, sequences=60)
    assert found["data"]["sequences"] == 60 and found["step"] == 3
    for task in ("text_given_image", "image_given_text"):
        by_task = found["classification"][task]
        assert by_task["captions"] == 10 and by_task["images"] == 60
        assert by_task["accuracy"] < 0.1 + 5 * max(by_task["standard_error"], 0.04)
    assert found["classification"]["logistic_regression"]["accuracy"] > 0.8
    assert mj.evaluate(folder, classify=True, draws=2, sequences=60) == found


def test_only_what_is_known_has_an_entropy(folder):
    found = evaluate_run(folder, draws=2, sequences=20)["tasks"]
    assert found["text_given_image"]["entropy"] == undecided_nats() and found["joint"]["entropy"] is None


def test_samples_are_in_grey(folder):
    (text,) = sample_run(folder, prompts=["a bold seven"])
    _, row, *picture = text.splitlines()
    assert row.startswith("a bold seven #") and len(picture) == 8 and set("".join(picture)) <= set(" @")


@pytest.mark.parametrize("draws", [0, 1, 3])
def test_odd_draws_are_refused(folder, draws):
    with pytest.raises(UserError, match=f"--draws={draws}; accepted with --classify: an even number"):
        classify_run(folder, draws=draws)


def test_page_matches_the_stored_result():
    stored = json.loads((ROOT / "experiments" / "results" / "unified_digits.json").read_text())
    page = " ".join((ROOT / "docs" / "theory" / "text-and-images.md").read_text().split())
    assert f"{stored['parameters']:,} parameters for {stored['step']:,} steps" in page and stored["parameters"] < 1e6
    assert f"{stored['training_seconds']:.0f} s on two" in page and f"is {undecided_nats():.4f} nats" in page
    regression = stored["classification"]["logistic_regression"]
    assert f"| {regression['accuracy']:.4f} | {regression['standard_error']:.4f} | |" in page
    assert f"{regression['images']} held-out images" in page
    for name in ("text_given_image", "image_given_text"):
        found = stored["classification"][name]
        share = found["accuracy"] / regression["accuracy"]
        assert f"| {found['accuracy']:.4f} | {found['standard_error']:.4f} | {share:.2f} |" in page and share > 0.9
    nats = {name: task["nats_per_row"] for name, task in stored["evaluation"]["tasks"].items()}
    assert f"{nats['image']:.2f} nats ({stored['evaluation']['bits_per_pixel']['image']:.3f} bits per pixel)" in page
    assert f"and {nats['image_given_text']:.2f} given its caption" in page
    assert f"caption costs {nats['text_given_image']:.3f} nats" in page
    assert f"differ by {stored['evaluation']['agreement']['spread']:.1f} nats" in page
    for name in ("accuracy", "standard error"):
        row = " | ".join(f"{guided[name.replace(' ', '_')]:.3f}" for guided in stored["guided"].values())
        assert f"| {name} | {row} |" in page
