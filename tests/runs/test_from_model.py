"""`train --from MODEL`: a run begins with the weights, the network and the tokenizer of a public model."""

import json

import jax
import numpy as np
import pytest

import mdlm_jax as mj
from mdlm_jax.cli.main import main
from mdlm_jax.runs.imported import open_imported
from mdlm_jax.runs.lineage import read_lineage
from tests.weights.test_imported import CONFIGS, DREAM, LLADA, SDAR, folder_of

MODELS = {"llama": CONFIGS["llama"], "llada": LLADA, "sdar": SDAR, "dream": DREAM}
KEYS = {"data.source": "text", "data.sequence_length": 64, "steps": 1, "optim.lr": 1e-12, "train.batch_size": 2}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(map(chr, np.random.default_rng(5).integers(97, 123, 4000))))
    return path


def trained(folder, model, text, recipe=None, **keys):
    """The exit code of the command."""
    values = KEYS | {"data.path": str(text), "eval.sequences": 4} | keys
    options = [f"--config.{key}={value}" for key, value in values.items()]
    with pytest.raises(SystemExit) as ended:
        main(["train", "--run", str(folder), "--from", str(model), *(["--recipe", recipe] if recipe else []), *options])
    return ended.value.code


@pytest.mark.parametrize(
    "name", [*(pytest.param(one, marks=pytest.mark.slow) for one in ("llama", "dream")), "llada", "sdar"]
)
def test_weights_network_and_likelihood_are_the_models(tmp_path, text, name):
    model = folder_of(tmp_path / "model", MODELS[name])
    assert trained(tmp_path / "run", model, text) == 0
    run, public = mj.open_run(tmp_path / "run"), open_imported(model)
    assert run.plan.architecture == public.network.plan.architecture
    for now, old in zip(jax.tree.leaves(run.params), jax.tree.leaves(public.params), strict=True):
        np.testing.assert_allclose(now, old, atol=1e-6, rtol=0)
    lineage = read_lineage(tmp_path / "run")
    assert lineage is not None and lineage[:4] == ("model", "weights", 0, 0)
    options = {"source": "text", "data": str(text), "sequences": 4}
    found, expected = mj.evaluate(tmp_path / "run", **options), mj.evaluate(model, **options)
    assert found["nats_per_token"] == pytest.approx(expected["nats_per_token"], abs=1e-5)
    assert found["bound"] == expected["bound"]
    (model / "model.safetensors").unlink()  # a run that has begun needs its model no more
    with pytest.raises(SystemExit) as ended:
        main(["train", "--run", str(tmp_path / "run")])
    assert ended.value.code == 0


@pytest.mark.parametrize(
    "recipe", ["dream", *(pytest.param(one, marks=pytest.mark.slow) for one in ("diffullama", "sdar", "fastdllm_v2"))]
)
def test_recipe_of_an_autoregressive_model(tmp_path, text, recipe):
    """The mask's embedding is the mean of all others; all else is the model's, and text can be drawn."""
    model = folder_of(tmp_path / "model", CONFIGS["llama"])
    assert trained(tmp_path / "run", model, text, recipe=recipe) == 0
    run, public = mj.open_run(tmp_path / "run"), open_imported(model)
    tables = [params["ends"]["embedding"].pop("embedding") for params in (run.params, public.params)]
    np.testing.assert_allclose(tables[0][:-1], tables[1][:-1], atol=1e-6)
    np.testing.assert_allclose(tables[0][-1], tables[1][:-1].mean(axis=0), atol=1e-6)
    for now, old in zip(jax.tree.leaves(run.params), jax.tree.leaves(public.params), strict=True):
        np.testing.assert_allclose(now, old, atol=1e-6, rtol=0)
    assert not run.config.data.extra_token and run.shift == (recipe in ("dream", "diffullama"))
    (drawn,) = mj.sample(tmp_path / "run", prompts=["ab"], length=32)
    assert drawn.tokens.shape == (1, 32)


def test_recipe_of_a_masked_model_is_refused(tmp_path, text, capsys):
    model = folder_of(tmp_path / "dream", DREAM)
    assert trained(tmp_path / "run", model, text, recipe="dream") == 2
    assert "objective masked; accepted: an autoregressive network" in capsys.readouterr().err


def test_what_is_no_public_model_is_refused(tmp_path, text, capsys):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(json.dumps({}))
    assert trained(tmp_path / "run", tmp_path / "other", text) == 2
    assert "accepted: the folder of a public model" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
