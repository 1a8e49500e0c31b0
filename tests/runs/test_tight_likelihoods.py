"""`evaluate --likelihood` on real runs."""

import json

import jax
import numpy as np
import pytest

import mdlm_jax as mj
from mdlm_jax.build.network import network
from mdlm_jax.cli.main import main
from mdlm_jax.errors import UserError
from mdlm_jax.evaluation.orders import log_mean
from mdlm_jax.exact import order_nats
from mdlm_jax.objectives.base import full
from mdlm_jax.runs.held_out import open_held_out
from mdlm_jax.runs.likelihoods import chosen_likelihood
from mdlm_jax.runs.restore import Run, open_run
from mdlm_jax.sampling.network import reading
from tests.runs.here import config_of, train_here

LENGTH = 4


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of `masked`."""
    folder = tmp_path_factory.mktemp("tight") / "masked"
    train_here(folder, steps=2, objective__name="masked", data__sequence_length=LENGTH)
    return folder


def network_of(run):
    def network(tokens):
        positions = jax.numpy.broadcast_to(jax.numpy.arange(LENGTH)[:, None], (*tokens.shape, 1))
        view = reading(jax.numpy.asarray(tokens), positions, positions, jax.numpy.zeros(len(tokens)))
        return run.model.head(run.params, run.model.hidden(run.params, view, full)[0])

    return network


def test_orders_of_a_run(trained, tmp_path):
    """The limit of many orders is that of all 24."""
    out = tmp_path / "out.json"
    options = ["--likelihood", "orders", "--orders", "32", "--sequences", "5", "--out", str(out)]
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--run", str(trained), *options])
    assert not ended.value.code
    found, run = json.loads(out.read_text()), open_run(trained)
    rows = open_held_out(run, trained, 5).rows
    nats = np.array([order_nats(network_of(run), run.vocab_size, tokens) for tokens in np.asarray(rows.tokens)])
    assert found["tokens"] == nats.shape[0] * LENGTH and found["draws"] == 32 and found["bound"] == "upper"
    assert "each order equally likely" in found["likelihood_of"]
    error = 5 * found["monte_carlo_error"] + 1e-5
    assert found["nats_per_token"] == pytest.approx(log_mean(nats).sum() / found["tokens"], abs=error)
    assert found["nats_per_token"] <= found["half_the_orders"] <= found["mean_over_orders"]
    assert found["bias"] == pytest.approx(found["half_the_orders"] - found["nats_per_token"], abs=1e-12)
    again = mj.evaluate(trained, likelihood="orders", orders=32, sequences=5)
    assert again["nats_per_token"] == found["nats_per_token"]


@pytest.mark.parametrize("name", ["left_to_right", "confidence"])
def test_one_order_of_a_run(trained, name):
    found, run = mj.evaluate(trained, likelihood=name, sequences=5), open_run(trained)
    assert found["bound"] == "exact" and found["monte_carlo_error"] == 0 and found["tokens"] == 5 * LENGTH
    nats = 0.0
    for tokens in np.asarray(open_held_out(run, trained, 5).rows.tokens):
        row = np.full(LENGTH, run.vocab_size)
        for _ in range(LENGTH):
            logs = np.array(jax.nn.log_softmax(network_of(run)(row[None])[0]))
            logs[row != run.vocab_size] = -np.inf
            position = logs.max(axis=1).argmax() if name == "confidence" else np.argmax(row == run.vocab_size)
            nats -= logs[position, tokens[position]]
            row[position] = tokens[position]
    assert found["nats_per_token"] == pytest.approx(nats / found["tokens"], rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--likelihood", "tight"], "--likelihood=tight; accepted: elbo, orders, left_to_right, confidence"),
        (["--likelihood", "orders", "--orders", "3"], "--orders=3; accepted: an even number, 2 to 4096"),
        (["--orders", "4"], "--orders=4; accepted: with --likelihood=orders"),
        (["--orders", "4", "--likelihood", "confidence"], "--orders=4; accepted: with --likelihood=orders"),
        (["--likelihood", "orders", "--draws", "4"], "--draws=4 with --likelihood=orders"),
        (["--likelihood", "orders", "--clip"], "--clip with --likelihood"),
    ],
)
def test_wrong_options_are_one_line(trained, capfd, options, message):
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--run", str(trained), *options])
    lines = capfd.readouterr().err.splitlines()
    assert ended.value.code == 2 and len(lines) == 1 and message in lines[0], lines


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "ar"}, "ar has an exact one; accepted: evaluate without --likelihood"),
        ({"name": "sedd", "process": "uniform"}, "not for sedd; accepted: any_order, masked"),
        ({"name": "genmd4"}, "not for genmd4; accepted: "),
        ({"name": "gaussian"}, "not for gaussian; accepted: "),
        ({"name": "masked", "block_size": 2}, "not for masked in blocks; accepted: "),
        ({"name": "any_order", "timed": True}, "not for any_order with model.time_conditioning; accepted: "),
        ({"name": "masked_lm"}, None),
        ({"name": "any_order_causal"}, None),
        ({"name": "d3pm", "process": "absorbing"}, None),
    ],
)
def test_networks_that_have_no_such_likelihood(keys, message):
    timed = keys.pop("timed", False)
    config = config_of(data__sequence_length=LENGTH, **{f"objective__{key}": value for key, value in keys.items()})
    config.model.time_conditioning = timed
    net = network(config)
    objective_params = net.objective.init(jax.random.key(0))
    run = Run(config, net.plan, net.model, net.objective, net.vocab_size, net.tokenizer, 0, (), objective_params)
    if message is None:
        chosen_likelihood(run, "orders", None, None)
    else:
        with pytest.raises(UserError, match=message):
            chosen_likelihood(run, "orders", None, None)
