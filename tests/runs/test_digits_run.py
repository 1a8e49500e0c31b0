"""A run on captioned digits end to end, and the table of the documentation against its stored results."""

import pytest

from mdlm_jax.data.digits import undecided_nats
from mdlm_jax.errors import UserError
from mdlm_jax.runs.classify import classify_run
from mdlm_jax.runs.evaluate import evaluate_run
from mdlm_jax.sampling.sample_run import sample_run
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
    assert classify_run(folder, draws=2, sequences=60) == found


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
