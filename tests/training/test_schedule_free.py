"""Schedule-free AdamW against the paper's recurrences, and its average wherever a run is read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mdlm_jax as mj
from mdlm_jax.errors import UserError
from mdlm_jax.runs.restore import open_run
from mdlm_jax.training.evaluated import evaluated
from mdlm_jax.training.optimizer import hyperparameters, learning_rate_shape, make_optimizer
from mdlm_jax.training.step import State
from tests.runs.here import state_of, train_here

BETA_1, BETA_2, EPSILON, RATE, DECAY, WARMUP, STEPS = 0.9, 0.95, 1e-8, 0.1, 0.3, 3, 8


def start():
    return {"blocks": {"up": {"kernel": jnp.full((1, 2, 2), 2.0)}}, "ends": {"head": jnp.full((2, 3), -1.0)}}


def gradient(step):
    keys = jax.random.split(jax.random.fold_in(jax.random.key(0), step), 2)
    one, other = (jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, jax.tree.leaves(start()), strict=True))
    return {"blocks": {"up": {"kernel": one}}, "ends": {"head": other}}


def after_steps(frozen=()) -> State:
    optimizer = make_optimizer(
        "schedule_free",
        decay="constant",
        final=0.0,
        beta_1=BETA_1,
        beta_2=BETA_2,
        epsilon=EPSILON,
        clip=1e9,
        decay_everything=True,
        frozen=frozen,
    )
    trainable = start(), ()
    state = optimizer.init(trainable)._replace(hyperparams=hyperparameters(RATE, DECAY, WARMUP, STEPS))
    update = jax.jit(optimizer.update)
    for step in range(STEPS):
        updates, state = update((gradient(step), ()), state, trainable)
        trainable = jax.tree.map(jnp.add, trainable, updates)
    return State(jnp.int32(STEPS), trainable[0], (), state, (), jnp.zeros(2, jnp.uint32))


def by_hand(name):
    """(y, x) of one leaf in float64 (arXiv 2405.15682, algorithm 1): x weighted by the squared largest rate so far."""
    leaf = (lambda tree: tree["ends"]["head"]) if name == "head" else (lambda tree: tree["blocks"]["up"]["kernel"])
    x = z = y = np.asarray(leaf(start()), np.float64)
    v, weights = np.zeros_like(x), 0.0
    for step in range(STEPS):
        g = np.asarray(leaf(gradient(step)), np.float64)
        rate = RATE * float(learning_rate_shape("constant", 0.0, step, WARMUP, STEPS))
        v = BETA_2 * v + (1 - BETA_2) * g**2
        z = z - rate * (g / (np.sqrt(v / (1 - BETA_2 ** (step + 1))) + EPSILON) + DECAY * y)
        weights += rate**2
        x = (1 - rate**2 / weights) * x + rate**2 / weights * z
        y = (1 - BETA_1) * z + BETA_1 * x
    return y, x


def test_average_by_the_recurrences():
    state = after_steps()
    params, _ = evaluated(state)
    for name, trained, averaged in (
        ("head", state.params["ends"]["head"], params["ends"]["head"]),
        ("kernel", state.params["blocks"]["up"]["kernel"], params["blocks"]["up"]["kernel"]),
    ):
        y, x = by_hand(name)
        np.testing.assert_allclose(trained, y, rtol=2e-5)
        np.testing.assert_allclose(averaged, x, rtol=2e-5)
        assert np.abs(x - y).max() > 1e-3


def test_frozen_parameters_have_no_average():
    state = after_steps(frozen=("ends/*",))
    params, _ = evaluated(state)
    np.testing.assert_array_equal(params["ends"]["head"], start()["ends"]["head"])
    np.testing.assert_allclose(params["blocks"]["up"]["kernel"], by_hand("kernel")[1], rtol=2e-5)


def test_runs_are_read_at_the_average(tmp_path):
    """Validation, evaluation and a run that starts from this one have x; training goes on from y."""
    keys = {"optim__name": "schedule_free", "optim__decay": "constant", "objective__name": "ar"}
    result = train_here(tmp_path / "one", steps=5, **keys)
    read, stored = open_run(tmp_path / "one").params["ends"]["head"], state_of(tmp_path / "one", 5)
    trained = stored["params"]["ends"]["head"]
    assert np.abs(read - trained).max() > 1e-4
    found = mj.evaluate(tmp_path / "one")
    assert found["nats_per_token"] == pytest.approx(result.loss, rel=1e-5)
    train_here(tmp_path / "two", steps=1, start_from=str(tmp_path / "one"), optim__lr=1e-30, **keys)
    np.testing.assert_allclose(open_run(tmp_path / "two").params["ends"]["head"], read, rtol=1e-6)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ([], "optim.decay is 'cosine'; accepted: constant"),
        (["--config.optim.decay=constant", "--config.optim.ema=0.9"], "optim.ema is 0.9; accepted: 0"),
        (["--config.optim.decay=constant", "--config.optim.beta_1=0.0"], "optim.beta_1 is 0.0; accepted: above 0"),
    ],
)
def test_what_it_does_not_read_is_refused(keys, message):
    with pytest.raises(UserError, match=message):
        mj.plan(mj.load_config("quickstart", ["--config.optim.name=schedule_free", *keys]))
