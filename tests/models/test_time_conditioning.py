"""What time conditioning embeds: the time, or sigma = -log alpha of the schedule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.build import plan
from mdlm_jax.build.described import noise_level_of
from mdlm_jax.config import load_config
from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.layers import Execution, sinusoids
from mdlm_jax.models.transformer import transformer
from mdlm_jax.objectives.masked import masked
from mdlm_jax.schedules import SCHEDULES, cosine
from tests import run_folders as runs

V = 7
SMALL = Architecture(V, 1, 8, 2, 2, 16, time_conditioning=True, time_width=8)


def row():
    return Example(jnp.arange(6) % V, jnp.ones(6, jnp.int32), jnp.zeros(6, bool))


def config(**objective):
    given = load_config(str(runs.ROOT / "configs/base.py"), ["--config.model.vocab_size=7"])
    given.model.time_conditioning = True
    for key, value in objective.items():
        given.objective[key] = value
    return given


def test_embedding_matches_dit_and_sedd():
    """`timestep_embedding(1000 t, 256)` and `timestep_embedding(sigma, 256)` of their code, written out."""
    frequencies = np.exp(-np.log(10000) * np.arange(128) / 128)
    for level in (1000 * 0.3, 2.5):
        expected = np.concatenate([np.cos(level * frequencies), np.sin(level * frequencies)])
        np.testing.assert_allclose(sinusoids(jnp.float32(level)), expected, atol=3e-5)


def test_network_reads_sigma_of_the_schedule():
    """Its output at t equals that of a network that embeds the level itself at sigma(t)."""
    objective = masked(V, cosine())
    view = objective.view((), jax.random.key(0), row(), jnp.float32(0.4))
    by_time, by_level = (
        transformer(SMALL._replace(time_embedding="sigma"), Execution(), level)
        for level in (noise_level_of(sigma_config()), None)
    )
    params = jax.tree.map(lambda leaf: leaf + 0.1, by_time.init(jax.random.key(1)))
    sigma = -np.log1p(-np.sin(np.pi / 2 * np.asarray(view.t)))
    there = view._replace(t=jnp.asarray(sigma))
    one, two = by_time.hidden(params, view, objective.mask)[0], by_level.hidden(params, there, objective.mask)[0]
    np.testing.assert_allclose(one, two, rtol=1e-5)
    assert not np.allclose(one, by_level.hidden(params, view, objective.mask)[0], rtol=1e-3)


def sigma_config():
    given = config(schedule="cosine")
    given.model.time_embedding = "sigma"
    return given


@pytest.mark.parametrize("name", ["linear", "cosine", "geometric", "mdlm_cosine", "square_root"])
def test_evaluation_shows_the_time_of_its_mask_rate(name):
    """The k-form masks a share k / n, and the network reads the time at which training masks that share."""
    schedule = SCHEDULES[name]()
    reported = masked(V, schedule).evaluate
    views = jax.vmap(lambda u: reported.view((), jax.random.key(0), row(), u))(jnp.arange(6) / 6 + 0.05)
    share = (views.tokens == V).mean(axis=-1)[:, 0]
    ends = schedule(jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(schedule(views.t[:, 0, 0]), np.clip(share, *ends), atol=1e-6)


def test_complementary_view_has_its_own_time():
    schedule = cosine()
    view = masked(V, schedule, complementary=True).view((), jax.random.key(0), row(), jnp.float32(0.3))
    np.testing.assert_allclose(schedule(view.t[1]), 1 - schedule(view.t[0]), atol=1e-6)


@pytest.mark.parametrize(
    "objective",
    [
        {"name": "masked", "schedule": "cosine"},
        {"name": "masked_plain"},
        {"name": "any_order"},
        {"name": "sedd", "score": "scaled"},
        {"name": "d3pm"},
        {"name": "masked", "block_size": 4},
    ],
)
def test_objectives_with_time_conditioning(objective):
    assert plan(config(**objective)).architecture.time_conditioning


@pytest.mark.parametrize("name", ["ar", "any_order_causal", "masked_lm"])
def test_objectives_of_one_noise_level_refuse_it(name):
    with pytest.raises(
        UserError, match=f"time_conditioning is True; accepted: False: {name} trains at one noise level"
    ):
        plan(config(name=name))


@pytest.mark.parametrize("name", ["duo", "genmd4", "gaussian", "any_order"])
def test_sigma_needs_a_schedule(name):
    given = config(name=name)
    given.model.time_embedding = "sigma"
    with pytest.raises(UserError, match="time_embedding is 'sigma'; accepted: t: .* has no schedule"):
        noise_level_of(given)
