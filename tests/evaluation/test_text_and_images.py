"""Nats of each task of rows of text and image, on networks whose nats are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.data import Example
from mdlm_jax.data.captioned import layout_of, open_captioned
from mdlm_jax.evaluation.text_and_images import agreement, bits_per_dimension, evaluate_tasks
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.layers import Execution
from mdlm_jax.models.transformer import transformer
from mdlm_jax.models.within_modality import within_modality
from mdlm_jax.objectives import unified
from mdlm_jax.objectives.modality_tasks import TASKS
from mdlm_jax.schedules import linear

OPTIONS = {"draws": 2, "batch_size": 32, "chunk": 13}


def evaluated(model, params):
    layout = layout_of("shapes", "patch=2")
    tokens = open_captioned("shapes", "patch=2", 13).validation.read(np.arange(32))
    rows = Example(tokens, np.ones_like(tokens), np.zeros(tokens.shape, bool))
    objective = unified(layout.vocab_size, layout.text_vocab, 4, {"joint": 1.0}, linear(), linear())
    return evaluate_tasks(model, dict.fromkeys(TASKS, objective), params, (), rows, layout.text_vocab, **OPTIONS)


def small():
    model = transformer(Architecture(271, 1, 8, 2, 2, 16, learned_positions=13), Execution())
    return model, jax.jit(model.init)(jax.random.key(0))


def test_zero_logits():
    """A word costs ln 15 and a code ln 256 in every task; how many of each a row masks differs in the joint one."""
    model, params = small()
    found = evaluated(model, jax.tree.map(jnp.zeros_like, params))
    text, image = 4 * np.log(15), 9 * np.log(256)
    for name, nats, tokens in [
        ("image_given_text", image, 9),
        ("text_given_image", text, 4),
        ("text", text, 4),
        ("image", image, 9),
    ]:
        assert found[name].nats_per_row == pytest.approx(nats, rel=1e-5) and found[name].tokens == tokens
        assert found[name].nats_per_token == pytest.approx(nats / tokens, rel=1e-5)
    joint, text_first, image_first = agreement(found)
    assert text_first == pytest.approx(text + image, rel=1e-5) == image_first
    assert abs(joint - text - image) < 4 * found["joint"].standard_error and found["joint"].tokens == 13
    assert bits_per_dimension(image, 36) == pytest.approx(9 * 8 / 36, rel=1e-5)


def test_restriction_at_the_head_changes_no_nats():
    """Where the loss already runs over one modality, logits of the other modality do not count."""
    model, params = small()
    params = jax.tree.map(lambda leaf: 2 * leaf, params)
    free, restricted = evaluated(model, params), evaluated(within_modality(model, 15, 4), params)
    for name, task in free.items():
        assert restricted[name].nats_per_row == pytest.approx(task.nats_per_row, rel=1e-5)
