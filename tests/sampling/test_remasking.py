"""Remasking: noised data stays noised data, and samples have the distribution that theory gives them."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from mdlm_jax.errors import UserError
from mdlm_jax.exact.toy import random_toy_distribution
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.processes.mixture import absorbing
from mdlm_jax.sampling import Remasking, Trained, left_padded, sample
from mdlm_jax.sampling.remasking import ETA, chance_of_mask, levels, looped
from mdlm_jax.schedules import cosine, linear, with_ends
from tests.sampling.chains import best_distributions, matrix, noised_distribution, states_of, total_variation
from tests.sampling.taped import with_mask
from tests.sampling.toys import RARE, L, V, conditionals, counts, oracle

ROWS, STEPS = 20_000, 3


def empty():
    return jnp.zeros((ROWS, 0), int)


PLANS = {
    "cap": Remasking(strategy="cap", eta=0.9),
    "rescale": Remasking(strategy="rescale", eta=0.9),
    "loop": Remasking(strategy="loop", eta=0.9, loop_on=0.7, loop_off=0.3, loop_alpha=0.8),
    "forward_backward": Remasking(strategy="forward_backward"),
    "confidence": Remasking(strategy="confidence"),
}
BLIND = [name for name in PLANS if name != "confidence"]  # the chance to go is no matter of the token


def chances(plan, t, noised_t, noised_s, hidden, nats):
    """Of rows."""
    traced = (jnp.asarray(number, nats.dtype) for number in (t, noised_t, noised_s))
    return jax.vmap(partial(chance_of_mask, plan), (None, None, None, 0, 0))(*traced, hidden, nats)


def step_matrix(plan, schedule, process, joint, s, t):
    """P(row -> row) of one step with the best network."""
    states = states_of(process, joint.ndim)
    hidden, (noised, _) = states == V, levels(plan, schedule, jnp.array([t, s]))
    chance = chances(plan, t, *noised, hidden, jnp.zeros(states.shape))
    known = best_distributions(
        process, joint, states, jnp.minimum(t, 1 - 1e-9)
    )  # at t = 1 tokens have no chance to be seen
    probs = jnp.where(hidden[..., None], known, jax.nn.one_hot(states, V))
    return matrix(with_mask(probs, chance), states)


def process_of(plan, schedule):
    if plan.strategy == "loop":
        return absorbing(V, looped(schedule, plan.loop_on, plan.loop_off, plan.loop_alpha))
    return absorbing(V, schedule)


@pytest.mark.few(2)
@pytest.mark.parametrize("schedule", [linear, cosine])
@pytest.mark.parametrize("name", BLIND)
def test_noised_data_stays_noised_data(name, schedule):
    """p_t M(s, t) = p_s for steps of any size, for one position and for two independent ones; for two dependent
    ones the marginals agree."""
    with jax.enable_x64(True):
        plan = PLANS[name]
        schedule = schedule()
        process = process_of(plan, schedule)
        one, dependent = (jnp.asarray(random_toy_distribution(2, V, length).probability) for length in (1, 2))
        for s, t in ((0.0, 0.2), (0.25, 0.5), (0.4, 0.9)):
            for joint in (one, jnp.outer(one, one[::-1]), dependent):
                states = states_of(process, joint.ndim)
                moved = noised_distribution(process, joint, states, t) @ step_matrix(
                    plan, schedule, process, joint, s, t
                )
                expected = noised_distribution(process, joint, states, s)
                if joint is dependent:
                    assert np.abs(moved - expected).max() > 1e-5
                    shape = (V + 1,) * 2
                    moved, expected = (probs.reshape(shape).sum(axis=1) for probs in (moved, expected))
                np.testing.assert_allclose(moved, expected, atol=1e-9)


def error(plan, num_steps):
    """Total variation of the samples' distribution from the joint of two positions, by all its steps."""
    joint = jnp.asarray(random_toy_distribution(2, V, 2).probability)
    process = process_of(plan, linear())
    states = states_of(process, 2)
    step, probs = jax.jit(partial(step_matrix, plan, linear(), process, joint)), (states == V).all(axis=1) * 1.0
    for t, s in itertools.pairwise(np.linspace(1, 0, num_steps + 1)):
        probs = probs @ step(s, t)
    return total_variation(probs, process, joint)


@pytest.mark.parametrize("name", ["cap", "rescale", "forward_backward"])
def test_many_small_steps_give_the_joint(name):
    """With sigma proportional to the step, twice the steps halve the error; with a constant one it falls slower."""
    with jax.enable_x64(True):
        plans = [PLANS[name]._replace(eta=4.0 / steps if name in ETA else None) for steps in (100, 200)]
        few, many = (error(plan, steps) for plan, steps in zip(plans, (100, 200), strict=True))
        assert 1.9 < few / many < 2.1
        if name in ETA:
            constant = PLANS[name]._replace(eta=0.2)
            assert 1.2 < error(constant, 100) / error(constant, 200) < 1.8


def test_loop_conditions_on_the_time_of_its_noise():
    schedule = cosine()
    noised, told = levels(PLANS["loop"], schedule, jnp.array([1.0, 0.9, 0.7, 0.5, 0.3, 0.1, 0.0]))
    np.testing.assert_allclose(noised[jnp.array([0, 2, 3, 4, 6])], [1, 0.2, 0.2, 0.2, 0], atol=1e-6)
    np.testing.assert_allclose(schedule(told), noised, atol=1e-5)


def enumerated(plan, schedule) -> np.ndarray:
    """The distribution of the tokens after STEPS steps: every row, with the probabilities its tokens were placed with,
    and where it may go."""
    times = np.linspace(1, 0, STEPS + 1)
    noised = np.array(levels(plan, schedule, jnp.asarray(times, jnp.float32))[0])
    noised[-1] = 0
    after = np.array(list(itertools.product(range(V + 1), repeat=L)))
    rows = {((V,) * L, (0.0,) * L): 1.0}
    for step in range(STEPS):
        tokens, nats = (np.array([row[part] for row in rows]) for part in (0, 1))
        hidden = jnp.asarray(tokens == V)
        chance = np.asarray(chances(plan, times[step], *noised[step : step + 2], hidden, jnp.float32(nats)), np.float64)
        following = {}
        for row, mass, before, said, masks in zip(rows, rows.values(), tokens, nats, chance, strict=True):
            probs = np.where((before == V)[:, None], conditionals()[row[0]], np.eye(V + 1, V)[before])
            probs = np.concatenate([probs * (1 - masks[:, None]), masks[:, None]], axis=1)
            for state, moved in zip(after, probs[np.arange(L), after].prod(axis=1) * mass, strict=True):
                if moved:
                    placed = np.log(conditionals()[row[0]][np.arange(L), np.minimum(state, V - 1)] + 1e-30)
                    new = np.where(state == V, 0, np.where(before == V, placed, said)).round(9)
                    if step == STEPS - 1 or plan.strategy != "confidence":
                        new = np.zeros(L)  # nothing asks for it
                    key = tuple(state.tolist()), tuple(new.tolist())
                    following[key] = following.get(key, 0) + moved
        rows = following
    probs = np.zeros((V,) * L)
    for (state, _), mass in rows.items():
        probs[state] = mass
    return probs.ravel()


# of three steps, rescaled and capped ones have one distribution
FEW = {name: plan for name, plan in PLANS.items() if name != "rescale"}
FEW["loop, not capped"] = PLANS["loop"]._replace(upstream_compat=True)


@pytest.mark.few(2)
@pytest.mark.parametrize("name", FEW)
def test_few_steps_have_their_exact_distribution(name):
    plan, schedule = FEW[name]._replace(steps=STEPS), with_ends(linear(), 0.1)
    probs = enumerated(plan, schedule)
    assert abs(probs.sum() - 1) < 1e-6
    tokens, trace = sample(jax.random.key(1), oracle(), (), empty(), plan, L, Trained(schedule=schedule))
    assert chisquare(counts(tokens), ROWS * probs / probs.sum()).pvalue > RARE
    evaluations, last = np.asarray(trace.evaluations), np.asarray(trace.step)
    assert evaluations.max() <= STEPS and (evaluations >= [len(set(row)) for row in last]).all()
    # a token that went came back: another distribution than without
    without = enumerated(plan._replace(strategy="cap", eta=0.0), schedule)
    assert chisquare(counts(tokens), ROWS * without).pvalue < 1e-6


def test_evaluations_count_network_calls():
    """In long rows most steps only remask, or do nothing, and need no evaluation. Given tokens stay."""
    rows, prompt = [], jnp.array([[V, 1, V]])
    plan = Remasking(steps=60, eta=0.1)
    tokens, trace = sample(jax.random.key(4), oracle(), (), prompt, plan, L, watch=lambda row: rows.append(row))
    jax.effects_barrier()
    assert int(trace.evaluations[0]) == len(rows) < 60
    assert len(rows) > 2  # something went, and came back
    np.testing.assert_array_equal(np.stack(rows)[:, 0, 1], 1)
    np.testing.assert_array_equal(trace.step[0] >= 0, [True, False, True])
    assert int(tokens[0, 1]) == 1


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Remasking(strategy="none"), "accepted are cap, rescale, confidence, loop, forward_backward"),
        (Remasking(strategy="confidence", eta=0.1), "eta 0.1: confidence has none; accepted with cap"),
        (Remasking(eta=1.5), "eta 1.5: accepted is 0 to 1"),
        (Remasking(loop_on=0.5), "loop_on 0.5: cap has none; accepted with loop"),
        (Remasking(strategy="loop", loop_off=0.6), "accepted: 0 < loop_off < loop_on < 1"),
        (Remasking(strategy="loop", loop_alpha=1.0), "loop_alpha 1.0: accepted is between 0 and 1"),
        (Remasking(upstream_compat=True), "cap has no error .* accepted with loop, forward_backward"),
    ],
)
def test_bad_plans_are_refused(plan, message):
    with pytest.raises(UserError, match=message):
        sample(jax.random.key(0), oracle(), (), empty()[:1], plan, L)


@pytest.mark.slow
def test_padded_rows_match_shorter_rows_in_blocks():
    model = transformer(Architecture(11, 1, 32, 4, 4, 48), Execution())
    params, prompts = jax.jit(model.init)(jax.random.key(0)), [[1, 2, 3, 4, 5, 6, 7, 8], [3, 4, 5, 6]]
    plan = Remasking(eta=0.3, steps=24)
    tokens, trace = sample(jax.random.key(1), model, params, left_padded(prompts), plan, 16, Trained(block_size=4))
    # a block has its share of the steps
    rows, trained = jnp.array([prompts[1]] * 2), Trained(block_size=4)
    alone, trace_alone = sample(jax.random.key(1), model, params, rows, plan._replace(steps=18), 12, trained)
    np.testing.assert_array_equal(tokens[1, 4:], alone[1])
    np.testing.assert_array_equal(trace.evaluations[1], trace_alone.evaluations[1])
    assert int(alone.max()) < 11
