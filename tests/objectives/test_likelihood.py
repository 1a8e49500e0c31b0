"""Every objective that bounds -log p(x), with a network that knows the toy distribution: its mean nats are the
entropy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.build.objective import objective_of
from mdlm_jax.config import load_config
from mdlm_jax.exact import (
    ToyDistribution,
    any_order_causal_oracle,
    ar_oracle,
    entropy,
    expected_nats,
    masked_oracle,
    random_toy_distribution,
)
from mdlm_jax.objectives import OBJECTIVES
from mdlm_jax.objectives.any_order import any_order, any_order_causal
from mdlm_jax.objectives.autoregressive import ar
from mdlm_jax.objectives.dropped_prompt import dropped_prompt
from mdlm_jax.objectives.masked import masked, masked_lm
from mdlm_jax.schedules import cosine, geometric, linear, polynomial
from tests.once import once

V = 3
DRAWS = 100_000  # of each of the 27 sequences


@functools.cache
def toy():
    return random_toy_distribution(0, V, length=3)


@functools.cache
def masked_network():
    return masked_oracle(toy())


@functools.cache
def ar_network():
    return ar_oracle(toy())


@functools.cache
def causal_network():
    return any_order_causal_oracle(toy())


CASES = {
    "ar": lambda: (ar(V), ar_network(), 10),
    "any_order": lambda: (any_order(V), masked_network(), DRAWS),
    "any_order_causal": lambda: (any_order_causal(V), causal_network(), 10),
    "masked linear": lambda: (masked(V, linear()), masked_network(), DRAWS),
    "masked cosine": lambda: (masked(V, cosine()), masked_network(), DRAWS),
    "masked square": lambda: (masked(V, polynomial(2.0)), masked_network(), DRAWS),
    "masked geometric": lambda: (masked(V, geometric(1e-6)), masked_network(), DRAWS),
}


# of the others: upper
BOUNDS = {"ar": "exact", "masked_lm": "none", "masked_plain": "none", "csm": "none", "unified": "none"}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_reports_a_bound(name):
    """An objective that is no bound names one in `evaluate`."""
    preset = "unified_shapes" if name == "unified" else "base"  # text and images in one vocabulary
    objective = objective_of(load_config(preset, [f"--config.objective.name={name}"]), 256)
    assert objective.bound == BOUNDS.get(name, "upper")
    reported = objective.evaluate or objective
    assert reported.bound in ("exact", "upper") and reported.evaluate is None


@pytest.mark.few(4)
@pytest.mark.parametrize("case", CASES)
def test_mean_nats_are_the_entropy(case):
    objective, oracle, draws = once(CASES[case])
    mean, error = expected_nats(objective, oracle, toy(), jax.random.key(0), draws)
    # chain rules have no noise: with the exact conditionals every order costs -log p(x)
    rounding = 1e-6 * entropy(toy())
    assert abs(mean - entropy(toy())) < min(3 * error + rounding, 0.003 * entropy(toy()))
    assert (error < rounding) == (oracle is not masked_network())


def test_masked_lm_costs_only_masked_tokens():
    """One of three tokens is masked, with weight 3: sum_i H(x_i | the others), below the entropy."""
    mean, error = expected_nats(masked_lm(V, rate=1 / 3), masked_network(), toy(), jax.random.key(0), DRAWS)
    others = sum(entropy(toy()) - entropy(ToyDistribution(toy().probability.sum(axis))) for axis in range(3))
    assert abs(mean - others) < 3 * error and others < 0.9 * entropy(toy())


@pytest.mark.parametrize("case", ["ar", "any_order", "any_order_causal"])
def test_prompted_nats_are_the_conditional_entropy(case):
    """H(x_2, x_3 | x_1), where the first token is the prompt."""
    objective, oracle, draws = once(CASES[case])
    prompt = jnp.array([True, False, False])
    prompted = objective._replace(
        view=lambda objective_params, key, example, u: objective.view(
            objective_params, key, example._replace(prompt_mask=prompt), u
        )
    )
    mean, error = expected_nats(prompted, oracle, toy(), jax.random.key(2), draws)
    expected = entropy(toy()) - entropy(ToyDistribution(toy().probability.sum((1, 2))))
    assert abs(mean - expected) < min(3 * error + 1e-6, 0.005 * expected)


@pytest.mark.few(1)
@pytest.mark.parametrize("rate", [0.25, 0.6])
def test_dropped_prompts_mix_both_entropies(rate):
    """(1 - rate) H(x_2, x_3 | x_1) + rate H(x_2, x_3): the best network knows both distributions."""
    prompt = jnp.array([True, False, False])
    trained = dropped_prompt(any_order(V), V, rate)
    prompted = trained._replace(
        view=lambda objective_params, key, example, u: trained.view(
            objective_params, key, example._replace(prompt_mask=prompt), u
        )
    )
    mean, error = expected_nats(prompted, masked_network(), toy(), jax.random.key(3), DRAWS)
    without = entropy(ToyDistribution(toy().probability.sum(0)))
    given = entropy(toy()) - entropy(ToyDistribution(toy().probability.sum((1, 2))))
    assert abs(mean - (1 - rate) * given - rate * without) < min(3 * error, 0.005 * without)
    assert without - given > 10 * error, "the toy distribution tells them apart"
    assert trained.evaluate.estimator == any_order(V).estimator, "what is reported sees every prompt"


def test_impossible_sequences_cost_nothing():
    """Only two of nine sequences have probability: no 0 x infinity in the mean."""
    probs = np.zeros((3, 3))
    probs[0, 1], probs[2, 2] = 0.25, 0.75
    toy = ToyDistribution(probs)
    mean, error = expected_nats(any_order(3), masked_oracle(toy), toy, jax.random.key(0), 20_000)
    assert abs(mean - entropy(toy)) < 3 * error
