"""Rows of text and image drawn in every direction: each position draws from its own modality, as the network says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2

from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.layers import Execution
from mdlm_jax.models.transformer import transformer
from mdlm_jax.models.within_modality import within_modality
from mdlm_jax.objectives.base import full
from mdlm_jax.objectives.parameterizations import leave_one_out
from mdlm_jax.processes.mixture import absorbing
from mdlm_jax.sampling import (
    Ancestral,
    Confidence,
    FirstHitting,
    PredictorCorrector,
    Remasking,
    Reverse,
    Trained,
    sample,
)
from mdlm_jax.sampling.network import reading
from mdlm_jax.sampling.reverse import DISTRIBUTIONS
from mdlm_jax.schedules import linear

TEXT, V, L = 3, 7, 6  # three words at positions 0 to 2, four codes at positions 3 to 5
TO_IMAGE, TO_TEXT, BOTH = [0, 1, 2, V, V, V], [V, V, V, 3, 6, 4], [V, 1, V, V, 5, V]


def network():
    model = transformer(Architecture(V, 1, 8, 2, 2, 16, learned_positions=L), Execution())
    params = jax.jit(model.init)(jax.random.key(1))
    return within_modality(model, TEXT, 3), jax.tree.map(lambda leaf: 1.5 * leaf, params)


@pytest.mark.few(8)
@pytest.mark.parametrize(
    "sampler",
    [
        Ancestral(steps=4),
        FirstHitting(),
        Confidence(steps=3),
        Confidence(steps=3, guidance=2.0),
        Confidence(steps=6, guidance=2.0, guidance_ramp=True),
        Confidence(steps=6, block_size=3, cache="dual"),
        Remasking(steps=6),
        FirstHitting(guidance=2.0, guidance_max_time=0.5),
        Confidence(steps=6, block_size=3, cache="prefix", guidance=2.0),
        Remasking(steps=6, guidance=1.0),
        *(Reverse(name, steps=6, guidance=1.0) for name in DISTRIBUTIONS),
        PredictorCorrector(steps=6),
    ],
)
@pytest.mark.parametrize("prompt", [TO_IMAGE, TO_TEXT, BOTH])
def test_positions_keep_their_modality(sampler, prompt):
    """Given tokens stay as they are."""
    model, params = network()
    parameterization = leave_one_out(absorbing(V, linear()))
    trained = Trained(text_length=3, parameterization=lambda objective_params: parameterization)
    drawn, _ = sample(jax.random.key(0), model, params, np.tile(prompt, (64, 1)), sampler, trained=trained)
    drawn, given = np.asarray(drawn), np.array(prompt) != V
    assert (drawn[:, :3] < TEXT).all() and (drawn[:, 3:] >= TEXT).all() and (drawn < V).all()
    np.testing.assert_array_equal(drawn[:, given], np.tile(np.array(prompt)[given], (64, 1)))


def test_image_given_text_follows_random_orders():
    """Two codes given the rest, by first hitting: the mean of both orders of the chain rule. Pearson's test."""
    model, params = network()
    prompt = np.array([0, 2, 1, V, 5, V])

    def probs(rows):
        positions = jnp.broadcast_to(jnp.arange(L), rows.shape)[..., None]
        hidden, _ = model.hidden(params, reading(jnp.asarray(rows), positions, positions, jnp.zeros(len(rows))), full)
        return np.asarray(jax.nn.softmax(model.head(params, hidden)), np.float64)[:, :, TEXT:]

    first = probs(prompt[None])[0]
    known = np.zeros((4, 4))
    for own, other in ((3, 5), (5, 3)):
        rows = np.tile(prompt, (4, 1))
        rows[:, own] = TEXT + np.arange(4)
        chain = first[own][:, None] * probs(rows)[:, other]
        known += (chain if own == 3 else chain.T) / 2
    count = 8000
    drawn, _ = sample(jax.random.key(3), model, params, np.tile(prompt, (count, 1)), FirstHitting())
    seen = np.zeros((4, 4))
    np.add.at(seen, (np.asarray(drawn)[:, 3] - TEXT, np.asarray(drawn)[:, 5] - TEXT), 1)
    assert chi2.sf(((seen - count * known) ** 2 / (count * known)).sum(), 15) > 1e-3
    assert np.abs(known - np.outer(known.sum(axis=1), known.sum(axis=0))).max() > 1e-3  # the codes depend on each other
