"""Learning rates against published values, the update against its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.training.optimizer import hyperparameters, learning_rate_shape, make_optimizer


def usual_numbers():
    return hyperparameters(learning_rate=0.1, weight_decay=0.3, warmup_steps=0, total_steps=10)


SETTINGS = {
    "decay": "constant",
    "final": 0.1,
    "beta_1": 0.9,
    "beta_2": 0.95,
    "epsilon": 1e-8,
    "clip": 1.0,
    "decay_everything": False,
}


@pytest.mark.parametrize(("step", "published"), [(4677.5, 1.751353e-4), (9355, 1.114272e-4), (18710, 2.0e-5)])
def test_cosine_matches_smdm(step, published):
    """170M at 1e19 FLOPs: 18,710 steps, 187 of warm-up, 2e-4 to 2e-5. SMDM's iterations are quarters of a step."""
    found = 2e-4 * learning_rate_shape("cosine", 0.1, step, warmup_steps=187, total_steps=18710)
    np.testing.assert_allclose(found, published, rtol=1e-5)


def test_warm_up_is_linear():
    shape = [float(learning_rate_shape("cosine", 0.1, step, 4, 100)) for step in range(5)]
    np.testing.assert_allclose(shape, [0.25, 0.5, 0.75, 1.0, 1.0], rtol=1e-6)


def test_wsd_is_constant_before_its_decay():
    """Exactly, whatever the last rate is: branches of a trunk with a constant rate depend on it."""
    for final in np.linspace(0, 1, 101):
        keys = {"step": np.arange(180), "warmup_steps": 10, "total_steps": 200}
        wsd, constant = (np.asarray(learning_rate_shape(name, float(final), **keys)) for name in ("wsd", "constant"))
        np.testing.assert_array_equal(wsd, constant)


def test_wsd_decays_in_the_last_tenth():
    shape = [float(learning_rate_shape("wsd", 0.1, step, 10, 200)) for step in (10, 100, 180, 190, 200)]
    np.testing.assert_allclose(shape, [1, 1, 1, 0.55, 0.1], rtol=1e-6)


@pytest.mark.parametrize(
    ("iteration", "published"), [(0, 0), (1, 2.6738e-7), (374, 1e-4), (748, 2e-4), (37420, 1.114272e-4)]
)
def test_warm_up_from_zero_matches_smdm(iteration, published):
    """SMDM's iterations are quarters of a step: 748 of 74,840 are warm-up."""
    found = 2e-4 * learning_rate_shape("cosine", 0.1, iteration, 748, 74840, warmup_from_zero=True)
    np.testing.assert_allclose(found, published, rtol=2e-5)


@pytest.mark.parametrize("form", ["linear", "cosine", "exponential", "minus_sqrt"])
def test_wsd_matches_megatron(form):
    """MegaDLMs: 2e-4 to 2e-5, 2,000 steps of warm-up, decay in the last 1,000 (`optimizer_param_scheduler.py`)."""
    total, warmup, last = 20_000, 2000, 1000

    def megatron(step):
        if step <= warmup:
            return 2e-4 * step / warmup
        ratio = max(step - (total - last), 0) / last
        left = {
            "linear": 1 - ratio,
            "cosine": 0.5 * (np.cos(np.pi * ratio) + 1),
            "exponential": 2 * 0.5**ratio - 1,
            "minus_sqrt": 1 - np.sqrt(ratio),
        }[form]
        return 2e-5 + left * (2e-4 - 2e-5)

    for step in (0, 1, 999, 2000, 2001, 18_999, 19_000, 19_001, 19_500, 19_999):
        found = 2e-4 * learning_rate_shape(
            "wsd", 0.1, step, warmup, total, wsd_form=form, wsd_steps=last, warmup_from_zero=True
        )
        np.testing.assert_allclose(found, megatron(step), rtol=1e-5, atol=1e-12)


def test_unknown_decay_is_refused():
    with pytest.raises(UserError, match="optim.decay is 'exponential'; accepted: cosine, wsd, constant"):
        learning_rate_shape("exponential", 0.1, 0, 1, 2)


def params():
    stacked = {"kernel": jnp.full((2, 3, 3), 2.0), "norm_1": {"scale": jnp.full((2, 3), 2.0)}}
    return {
        "blocks": stacked,
        "ends": {"embedding": {"embedding": jnp.full((4, 3), 2.0)}, "head": jnp.full((3, 4), 2.0)},
    }, ()


def begun(optimizer, params, **numbers):
    return optimizer.init(params)._replace(
        hyperparams=usual_numbers() | {k: jnp.float32(v) for k, v in numbers.items()}
    )


@pytest.mark.parametrize("decay_everything", [False, True])
def test_first_update_by_formula(decay_everything):
    """Adam's first step is lr * g / (|g| + epsilon); decoupled decay adds lr * decay * weight (arXiv 1711.05101)."""
    optimizer = make_optimizer(**SETTINGS | {"decay_everything": decay_everything})
    gradients = jax.tree.map(lambda leaf: 0.01 * jnp.ones_like(leaf), params())
    updates, _ = optimizer.update(gradients, begun(optimizer, params()), params())
    plain, decayed = -0.1, -0.1 - 0.1 * 0.3 * 2.0
    tree = updates[0]
    np.testing.assert_allclose(tree["blocks"]["kernel"], decayed, rtol=1e-5)
    np.testing.assert_allclose(tree["ends"]["head"], decayed, rtol=1e-5)
    for leaf in (tree["blocks"]["norm_1"]["scale"], tree["ends"]["embedding"]["embedding"]):
        np.testing.assert_allclose(leaf, decayed if decay_everything else plain, rtol=1e-5)


def test_gradient_is_clipped_by_global_norm():
    """The gradient is 100 times too long, and the second moment is that of the clipped one."""
    optimizer = make_optimizer(**SETTINGS)
    start = {"kernel": jnp.zeros((2, 2))}, ()
    long = {"kernel": jnp.full((2, 2), 50.0)}, ()
    _, state = optimizer.update(long, begun(optimizer, start, weight_decay=0), start)
    second_moment = next(leaf for leaf in jax.tree.leaves(optax.tree.get(state, "nu")) if leaf.shape == (2, 2))
    np.testing.assert_allclose(second_moment, 0.05 * 0.5**2, rtol=1e-5)


def test_hyperparameters_are_leaves():
    """So one compiled step serves runs with other hyperparameters."""
    optimizer = make_optimizer(**SETTINGS)
    assert set(optimizer.init(params()).hyperparams) == set(usual_numbers())
    gradients = jax.tree.map(jnp.ones_like, params())
    slow, fast = (
        optimizer.update(gradients, begun(optimizer, params(), learning_rate=rate), params())[0] for rate in (0.1, 0.2)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(2 * a, b, rtol=1e-5), slow, fast)
