"""The reverse process has the distribution that theory gives it, for few steps and many, and runs the network no
oftener."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from mdlm_jax.data import Example
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives.any_order import mask_tokens
from mdlm_jax.objectives.base import full
from mdlm_jax.sampling import Ancestral, Trained, sample
from mdlm_jax.sampling.ancestral import hitting_times, unmask_steps
from mdlm_jax.sampling.network import uniform_at
from mdlm_jax.schedules import cosine, geometric, linear, polynomial
from tests.sampling.toys import RARE, L, V, all_states, conditionals, counts, oracle, toy_joint

ROWS = 20_000


def empty():
    return jnp.zeros((ROWS, 0), int)


def exact_distribution(chance_first: float) -> np.ndarray:
    """Of two steps, the first unmasks each position with `chance_first`: the sum over what it unmasks."""
    probs = np.zeros(V**L)
    for early in itertools.product((False, True), repeat=L):
        chance = np.prod(np.where(early, chance_first, 1 - chance_first))
        for index, state in enumerate(all_states()):
            blank, half = (V,) * L, tuple(np.where(early, state, V))
            drawn = [conditionals()[blank if early[i] else half][i, state[i]] for i in range(L)]
            probs[index] += chance * np.prod(drawn)
    return probs


@pytest.mark.parametrize("schedule", [linear, cosine, partial(polynomial, 3.0), geometric])
def test_many_steps_give_the_joint(schedule):
    plan = Ancestral(steps=100_000)
    tokens, trace = sample(jax.random.key(0), oracle(), (), empty(), plan, L, Trained(schedule=schedule()))
    assert chisquare(counts(tokens), ROWS * toy_joint()).pvalue > RARE
    assert int(trace.evaluations.max()) == L


def test_many_steps_give_the_joint_after_a_prompt():
    tokens, trace = sample(jax.random.key(1), oracle(), (), jnp.full((ROWS, 1), 2), Ancestral(steps=100_000), L)
    follows = all_states()[:, 0] == 2
    probs = toy_joint()[follows] / toy_joint()[follows].sum()
    assert chisquare(counts(tokens)[follows], ROWS * probs).pvalue > RARE
    np.testing.assert_array_equal(trace.step[:, 0], -1)
    assert int(trace.evaluations.max()) == L - 1


def test_one_step_gives_product_of_marginals():
    probs = np.prod([conditionals()[(V,) * L][i, all_states()[:, i]] for i in range(L)], axis=0)
    tokens, trace = sample(jax.random.key(2), oracle(), (), empty(), Ancestral(steps=1), L)
    assert chisquare(counts(tokens), ROWS * probs).pvalue > RARE
    assert chisquare(counts(tokens), ROWS * toy_joint()).pvalue < 1e-6  # which is another distribution
    np.testing.assert_array_equal(trace.evaluations, 1)


@pytest.mark.parametrize(("schedule", "chance_first"), [(linear, 1 / 2), (partial(polynomial, 2.0), 3 / 4)])
def test_two_steps_have_their_exact_distribution(schedule, chance_first):
    probs = exact_distribution(chance_first)
    assert abs(probs.sum() - 1) < 1e-12
    tokens, _ = sample(jax.random.key(3), oracle(), (), empty(), Ancestral(steps=2), L, Trained(schedule=schedule()))
    assert chisquare(counts(tokens), ROWS * probs).pvalue > RARE


@pytest.mark.parametrize("surest_first", [True, False])
def test_adaptive_order_of_single_tokens_is_exact(surest_first):
    """The next position is any function of the tokens so far: here the one with the largest (or smallest) p(v)."""

    def distribution_from(partial):
        hidden = [position for position in range(L) if partial[position] == V]
        if not hidden:
            return {partial: 1.0}
        position = (max if surest_first else min)(hidden, key=lambda position: conditionals()[partial][position].max())
        orders.add((partial, position))
        probs = {}
        for token, chance in enumerate(conditionals()[partial][position]):
            for state, rest in distribution_from((*partial[:position], token, *partial[position + 1 :])).items():
                probs[state] = chance * rest
        return probs

    orders = set()
    probs = distribution_from((V,) * L)
    np.testing.assert_allclose([probs[tuple(state)] for state in all_states()], toy_joint(), rtol=1e-12)
    # and it does depend on them
    assert len({position for partial, position in orders if partial.count(V) == L - 1}) > 1


def test_unmasking_probability_is_the_reverse_step():
    """(alpha_s - alpha_t) / (1 - alpha_t) of the masks that are left."""
    steps, length = 5, 40_000
    noised = cosine()(jnp.linspace(1.0, 0.0, steps + 1))
    unmasked = np.asarray(unmask_steps(jax.random.key(4), noised, jnp.arange(length)))
    for step in range(steps):
        waiting = (unmasked >= step).sum()
        alpha_t, alpha_s = 1 - float(noised[step]), 1 - float(noised[step + 1])
        chance = (alpha_s - alpha_t) / (1 - alpha_t)
        error = np.sqrt(chance * (1 - chance) / waiting)
        assert abs((unmasked == step).sum() / waiting - chance) < 4 * error + 1e-6


def test_network_runs_only_in_unmasking_steps():
    """A row has n (1 - (1 - 1/n)^l) evaluations on average, for l tokens in n steps (RADD, arXiv 2406.03736)."""
    steps, length, rows = 6, 4, 4000
    model = oracle()._replace(hidden=lambda params, view, mask, cache=None: (jnp.zeros((*view.tokens.shape, V)), None))
    _, trace = sample(jax.random.key(5), model, (), jnp.zeros((rows, 0), int), Ancestral(steps=steps), length)
    evaluations = np.asarray(trace.evaluations)
    np.testing.assert_array_equal(evaluations, [len(set(row)) for row in np.asarray(trace.step)])
    expected = steps * (1 - (1 - 1 / steps) ** length)
    assert abs(evaluations.mean() - expected) < 4 * evaluations.std() / np.sqrt(rows)


@pytest.mark.slow
def test_steps_draw_from_the_training_distribution():
    """A step's log-probabilities are those of a training view with the same masks at the same time."""
    length, vocabulary, given, steps = 9, 11, 2, 4
    architecture = Architecture(vocabulary, 2, 32, 4, 2, 48, time_conditioning=True)
    model = transformer(architecture, Execution(scan_layers=True))
    noise = iter(jax.random.split(jax.random.key(9), 99))
    # adaLN starts at zero: without noise the network would not hear the time
    params = jax.tree.map(
        lambda leaf: leaf + 0.1 * jax.random.normal(next(noise), leaf.shape), jax.jit(model.init)(jax.random.key(1))
    )
    logits_of = jax.jit(lambda view: model.head(params, model.hidden(params, view, full)[0]))
    prompt = jax.random.randint(jax.random.key(3), (3, given), 0, vocabulary)
    tokens, trace = sample(jax.random.key(6), model, params, prompt, Ancestral(steps=steps), length)
    example = Example(tokens, jnp.ones_like(tokens), trace.step < 0)
    for step in range(steps):
        t = jnp.full(len(tokens), 1 - step / steps)
        looked = jax.vmap(partial(mask_tokens, weight=1.0, mask_id=vocabulary))(example, trace.step >= step, t=t)
        view = jax.tree.map(lambda field: field[:, 0], looked)
        logits = jax.nn.log_softmax(logits_of(view))
        expected = jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
        now = np.asarray(trace.step == step)
        np.testing.assert_allclose(np.asarray(trace.log_probability)[now], np.asarray(expected)[now], atol=1e-5)
    np.testing.assert_array_equal(tokens[:, :given], prompt)
    assert int(tokens.max()) < vocabulary


def test_infilling_has_the_conditional_distribution():
    prompt = jnp.broadcast_to(jnp.array([V, 1, V]), (ROWS, L))
    tokens, _ = sample(jax.random.key(11), oracle(), (), prompt, Ancestral(steps=100_000), L)
    follows = all_states()[:, 1] == 1
    assert counts(tokens)[~follows].sum() == 0
    assert chisquare(counts(tokens)[follows], ROWS * toy_joint()[follows] / toy_joint()[follows].sum()).pvalue > RARE


def test_hitting_times_fall_and_match_their_positions():
    """Each row's step k unmasks the position with the k-th largest of its own uniform numbers, at that time."""
    masked = jnp.array([[True, False, True, True, True], [False, True, True, False, True]])
    keys, positions = jax.random.split(jax.random.key(3), 2), jnp.tile(jnp.arange(5), (2, 1))
    step, times = hitting_times(keys, masked, positions)
    uniform = np.asarray(uniform_at(keys, positions))
    for row in range(2):
        at = np.flatnonzero(masked[row])
        expected = np.sort(uniform[row, at])[::-1]
        np.testing.assert_array_equal(times[row, : len(at)], expected)
        np.testing.assert_array_equal(times[row][step[row, at]], uniform[row, at])
        assert (np.diff(times[row, : len(at)]) < 0).all() and times[row, -1] == 0
    assert (uniform[0] != uniform[1]).all()  # each row by its own key
