"""The best network on a Markov chain of any length: against enumeration, and at its entropy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.data import Example
from mdlm_jax.data.markov import markov_chain, sample_rows
from mdlm_jax.exact import leave_one_out, markov_entropy, markov_leave_one_out, network_of
from mdlm_jax.objectives.any_order import any_order
from mdlm_jax.objectives.block import block
from mdlm_jax.objectives.d3pm import d3pm
from mdlm_jax.objectives.score_entropy import sedd, udlm
from mdlm_jax.processes.mixture import uniform
from mdlm_jax.schedules import cosine, linear


def test_leave_one_out_matches_enumeration():
    """Forward-backward without a position's own evidence."""
    vocab, length = 3, 5
    stationary, transitions = markov_chain(vocab, 0.5, seed=1)
    joint = stationary
    for _ in range(length - 1):
        joint = joint[..., :, None] * transitions
    with jax.enable_x64(True):
        evidence = jnp.asarray(np.random.default_rng(0).random((length, vocab)))
        ours = markov_leave_one_out(jnp.asarray(stationary), jnp.asarray(transitions), evidence)
        np.testing.assert_allclose(ours, leave_one_out(jnp.asarray(joint), evidence), rtol=1e-12)


VOCAB, LENGTH = 4, 12
OBJECTIVES = {
    "any_order": lambda: any_order(VOCAB),
    "udlm": lambda: udlm(VOCAB, cosine()).evaluate,
    "sedd in blocks": lambda: block(sedd(uniform(VOCAB, linear()), "raw").evaluate, 4, LENGTH),
    "d3pm": lambda: d3pm(uniform(VOCAB, linear()), 500, 0.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTIVES)
def test_best_network_reaches_the_entropy(name):
    """Mean nats over rows drawn from the chain, each noised once, at evenly spread levels."""
    objective = OBJECTIVES[name]()
    chain, num = markov_chain(VOCAB, 0.4, seed=0), 40_000
    rows = jnp.asarray(sample_rows(*chain, (7,), np.arange(num), LENGTH))
    arrays = [jnp.asarray(part, jnp.float32) for part in chain]
    network = network_of(objective, lambda evidence: markov_leave_one_out(*arrays, evidence), LENGTH)

    def nats(key, tokens, u):
        example = Example(tokens, jnp.ones_like(tokens), jnp.zeros(tokens.shape, bool))
        view = jax.tree.map(lambda field: field[0], objective.view((), key, example, u))
        return objective.token_loss((), network(view), view).sum() + view.constant

    keys, levels = jax.random.split(jax.random.key(0), num), (jnp.arange(num) + 0.5) / num
    each = np.asarray(jax.jit(jax.vmap(nats))(keys, rows, jax.random.permutation(jax.random.key(1), levels)), float)
    error = each.std() / num**0.5
    entropy = markov_entropy(*chain, LENGTH)
    assert abs(each.mean() - entropy) < 4 * error
    assert error < 0.03 * entropy
