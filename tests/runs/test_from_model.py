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

MODELS = {"llama": CONFIGS["llama"], "llada": LLADA, "sdar": SDAR}
KEYS = {"data.source": "text", "data.sequence_length": 64, "steps": 1, "optim.lr": 1e-12, "train.batch_size": 2}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(map(chr, np.random.default_rng(5).integers(97, 123, 4000))))
    return path


def trained(folder, model, text, **keys):
    """The exit code of the command."""
    values = KEYS | {"data.path": str(text), "eval.sequences": 4} | keys
    options = [f"--config.{key}={value}" for key, value in values.items()]
    with pytest.raises(SystemExit) as ended:
        main(["train", "--run", str(folder), "--from", str(model), *options])
    return ended.value.code


@pytest.mark.parametrize("name", [pytest.param("llama", marks=pytest.mark.slow), "llada", "sdar"])
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


def test_what_is_no_public_model_is_refused(tmp_path, text, capsys):
    model = folder_of(tmp_path / "dream", DREAM)
    assert trained(tmp_path / "run", model, text) == 2
    assert "no objective trains shifted predictions" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(json.dumps({}))
    assert trained(tmp_path / "run", tmp_path / "other", text) == 2
    assert "accepted: the folder of a public model" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
