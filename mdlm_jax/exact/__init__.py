"""Exact values to test likelihoods against: enumerable toy distributions, and Markov chains of any length.

To test an objective of your own, run `mdlm-jax check yours.py:make`. Or give it the best network of a toy distribution
and compare its mean nats with the entropy:

    toy = random_toy_distribution(0, vocab=3, length=3)
    mean, error = expected_nats(objective, best_network(objective, toy), toy, jax.random.key(0), draws=10_000)
    assert abs(mean - entropy(toy)) < 3 * error

`best_network` serves every objective with a `parameterization`; `ar_oracle` and `any_order_causal_oracle` serve those
that read a row causally.
"""

from mdlm_jax.data.markov import entropy_rate, markov_chain
from mdlm_jax.exact.bounds import (
    Network,
    any_order_bound,
    gauss_legendre,
    masked_bound,
    masked_count_distribution,
    masked_nats,
    order_nats,
    table_network,
    tanh_sinh,
)
from mdlm_jax.exact.evidence import best_network, gaussian_network, leave_one_out, network_of
from mdlm_jax.exact.expectation import bound_of, nats_at
from mdlm_jax.exact.markov import markov_conditionals, markov_entropy, markov_leave_one_out, markov_masked_nats
from mdlm_jax.exact.oracles import (
    Oracle,
    any_order_causal_oracle,
    ar_oracle,
    expected_nats,
    masked_oracle,
    nats_of_each,
)
from mdlm_jax.exact.promises import Promise, check_promises, perturbed
from mdlm_jax.exact.toy import ToyDistribution, conditionals, entropy, nats, random_toy_distribution

__all__ = [
    "Network",
    "Oracle",
    "Promise",
    "ToyDistribution",
    "any_order_bound",
    "any_order_causal_oracle",
    "ar_oracle",
    "best_network",
    "bound_of",
    "check_promises",
    "conditionals",
    "entropy",
    "entropy_rate",
    "expected_nats",
    "gauss_legendre",
    "gaussian_network",
    "masked_nats",
    "masked_count_distribution",
    "leave_one_out",
    "markov_chain",
    "markov_conditionals",
    "markov_entropy",
    "markov_leave_one_out",
    "markov_masked_nats",
    "masked_bound",
    "masked_oracle",
    "nats",
    "nats_at",
    "nats_of_each",
    "network_of",
    "order_nats",
    "perturbed",
    "random_toy_distribution",
    "table_network",
    "tanh_sinh",
]
