"""The ground truth of every likelihood test: worlds small enough to enumerate, and the Markov chain at any length.

To test an objective of your own, give it the exact conditionals of a world and compare its mean nats with the entropy:

    world = random_world(0, vocab=3, length=3)
    mean, error = expected_nats(objective, masked_oracle(world), world, jax.random.key(0), draws=10_000)
    assert abs(mean - entropy(world)) < 3 * error
"""

from mdlm_jax.exact.bounds import (
    Network,
    any_order_bound,
    gauss_legendre,
    hidden_nats,
    hiding_law,
    masked_bound,
    order_nats,
    table_network,
)
from mdlm_jax.exact.markov import markov_conditionals, markov_entropy, markov_masked_nats
from mdlm_jax.exact.oracles import Oracle, any_order_causal_oracle, ar_oracle, expected_nats, masked_oracle
from mdlm_jax.exact.world import World, conditionals, entropy, nats, random_world

__all__ = [
    "Network",
    "Oracle",
    "World",
    "any_order_bound",
    "any_order_causal_oracle",
    "ar_oracle",
    "conditionals",
    "entropy",
    "expected_nats",
    "gauss_legendre",
    "hidden_nats",
    "hiding_law",
    "markov_conditionals",
    "markov_entropy",
    "markov_masked_nats",
    "masked_bound",
    "masked_oracle",
    "nats",
    "order_nats",
    "random_world",
    "table_network",
]
