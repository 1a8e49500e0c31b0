"""The sampler of Gaussian diffusion with a network that knows a toy distribution of two positions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from mdlm_jax.exact import random_toy_distribution
from mdlm_jax.exact.evidence import leave_one_out
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives.gaussian import LOG_SNR, embedding, evidence
from mdlm_jax.objectives.gaussian import gaussian as objective
from mdlm_jax.sampling import Context, Gaussian, Trained
from mdlm_jax.sampling.network import Network

V, L, ROWS = 3, 2, 10_000


@functools.cache
def toy():
    return random_toy_distribution(4, V, L)


@functools.cache
def phi():
    return objective(V).init(jax.random.key(1))


@functools.cache
def vectors():
    return embedding(phi())


def row_keys():
    return jax.random.split(jax.random.key(0), ROWS)


def oracle(given: int):
    """Answers with the distribution of each position given the other, whose first `given` are without noise."""
    joint, embedded = jnp.asarray(toy().probability, jnp.float32), vectors()

    def hidden(params, view, mask, cache=None):
        shown = jax.nn.softmax(evidence(embedded, view.noisy, LOG_SNR(view.t)), axis=-1)
        shown = jnp.where((jnp.arange(L) < given)[:, None], jnp.arange(V) == view.tokens[..., None], shown)
        return jnp.log(jax.vmap(lambda shown: leave_one_out(joint, shown))(shown)), None

    model = transformer(Architecture(V, 1, 4, 1, 1, 4), Execution())
    return model._replace(hidden=hidden, head=lambda params, hidden: hidden)


def sampled(steps: int, prompt, keys):
    rows = jnp.tile(jnp.asarray(prompt, jnp.int32), (len(keys), 1))
    blank = jnp.concatenate([rows, jnp.full((len(rows), L - len(prompt)), V, jnp.int32)], axis=1)
    network = Network(oracle(len(prompt)), (), blank)
    context = Context(Trained(objective_params=phi()), L, jnp.int32(len(prompt)), jnp.float32(1), jnp.float32(0))
    return jax.jit(lambda keys: Gaussian(steps=steps).draw(keys, network, blank, context))(keys)


def total_variation(tokens, probs) -> float:
    index = np.ravel_multi_index(np.asarray(tokens).T, (V,) * tokens.shape[1])
    return 0.5 * float(np.abs(np.bincount(index, minlength=probs.size) / len(index) - probs.ravel()).sum())


def test_samples_converge_to_the_toy_distribution():
    noise = 0.5 * np.sqrt(2 / np.pi * toy().probability / ROWS).sum()  # of a total variation, from drawing alone
    few, many = (total_variation(sampled(steps, [], row_keys())[0], toy().probability) for steps in (4, 40))
    assert many < 0.01 + 2 * noise and few > 3 * many


def test_prompt_stays_and_the_rest_is_conditional():
    tokens, trace = sampled(50, [2], row_keys())
    assert (tokens[:, 0] == 2).all() and (trace.step == jnp.array([-1, 49])).all() and (trace.evaluations == 50).all()
    probs = toy().probability[2] / toy().probability[2].sum()
    assert total_variation(tokens[:, 1:], probs) < 0.02
    assert float(trace.log_probability[:, 0].max()) == 0 and float(jnp.exp(trace.log_probability).min()) > 0.99


def test_rows_do_not_depend_on_their_batch():
    together, alone = (sampled(8, [], keys)[0] for keys in (row_keys()[:6], row_keys()[5:6]))
    assert (alone[0] == together[5]).all()
