"""Block diffusion: between left to right and the whole row at once. Enumeration in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.data import Example
from mdlm_jax.exact import (
    any_order_bound,
    conditionals,
    entropy,
    expected_nats,
    nats,
    random_toy_distribution,
    table_network,
)
from mdlm_jax.exact.bounds import gauss_legendre, tanh_sinh
from mdlm_jax.exact.evidence import best_network
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives.block import block
from mdlm_jax.objectives.d3pm import d3pm
from mdlm_jax.objectives.genmd4 import genmd4
from mdlm_jax.objectives.jumps import tauldr
from mdlm_jax.objectives.masked import masked
from mdlm_jax.objectives.score_entropy import gidd, sedd
from mdlm_jax.processes.mixture import absorbing, uniform
from mdlm_jax.schedules import cosine, linear, polynomial
from tests.exact.enumeration import bounds, table

V, L = 2, 4


@functools.cache
def toy():
    return random_toy_distribution(1, V, L)


def some():
    return toy().tokens[[0, 5, 11]]


def diffusion(schedule=None):
    """Masked diffusion as a score entropy, whose integrand is the same at every time."""
    return sedd(absorbing(V, schedule or linear()), "denoiser")


@pytest.mark.parametrize("row", range(3))
def test_block_size_one_is_autoregression(row):
    """For any network the nats are the sum of -log p(x_i | clean x_<i, one mask)."""
    x = some()[row]
    logits = np.random.default_rng(0).normal(size=(V,) * L + (L, V))

    def network(view):  # position i reads the clean tokens before it, and knows no others
        clean = view.tokens[L:]
        return jnp.stack(
            [
                jnp.asarray(logits)[tuple(jnp.where(jnp.arange(L) < position, clean, 0))][position]
                for position in range(L)
            ]
        )

    value = bounds(block(diffusion(), 1, L), network, [x], *gauss_legendre(10))[0]
    chain = 0.0
    for position in range(L):
        said = logits[tuple(np.where(np.arange(L) < position, x, 0))][position]
        chain += np.log(np.exp(said).sum()) - said[x[position]]
    assert value == pytest.approx(chain, rel=1e-13)


def test_one_block_is_masked_diffusion():
    """One block as long as the row gives the bound of masked diffusion."""
    network = table(1, V + 1, L, V)
    logits = np.random.default_rng(1).normal(size=(V + 1,) * L + (L, V))
    value = bounds(block(diffusion(), L, L), network, some(), *gauss_legendre(L // 2 + 1))
    np.testing.assert_allclose(value, [any_order_bound(table_network(logits), V, x) for x in some()], rtol=1e-12)


def reads_blocks(size):
    """Any network that obeys the mask: a table over [its noised block, the clean tokens before it]."""
    logits = np.random.default_rng(2).normal(size=(V + 1,) * L + (L, V))

    def network(view):
        noised, clean, position = view.tokens[:L], view.tokens[L:], jnp.arange(L)
        rows = []
        for i in range(L):
            start = i // size * size
            seen = jnp.where(position < start, clean, jnp.where(position < start + size, noised, V))
            rows.append(jnp.asarray(logits)[tuple(seen)][i])
        return jnp.stack(rows)

    return network


@pytest.mark.parametrize("size", [1, 2, 4])
def test_bound_is_schedule_invariant(size):
    values = [
        bounds(block(diffusion(schedule), size, L), reads_blocks(size), some(), *tanh_sinh(40))
        for schedule in (linear(), cosine(), polynomial(2.0))
    ]
    np.testing.assert_allclose(values, np.broadcast_to(values[0], (3, len(some()))), rtol=1e-9)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_best_network_is_tight_at_every_size(size):
    """With the best network the bound is -log p(x) for every sequence."""
    objective = block(diffusion(), size, L)
    value = bounds(objective, best_network(objective, toy()), toy().tokens, *gauss_legendre(4))
    np.testing.assert_allclose(value, nats(toy()), rtol=1e-12)


def example():
    return Example(jnp.asarray(some()[1]), jnp.ones(L, jnp.int32), jnp.zeros(L, bool))


@functools.cache
def weights_and_times(size, low, high):
    """What the wrapped masked objective hands out: the weight of a hidden token and its time, many draws by
    position."""
    objective = block(masked(V, linear()), size, L, low, high)

    def one(key, u):
        view = jax.tree.map(lambda field: field[0], objective.view((), key, example(), u))
        return view.weight, view.t[:L], view.tokens[:L] == V

    draws = 40_000
    u = (jnp.arange(draws) + 0.5) / draws
    drawn = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), draws), u)
    return tuple(np.asarray(field, np.float64) for field in drawn)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.3, 0.8), (0.45, 0.95)])
def test_clipping_is_unbiased_at_block_size_one(low, high):
    """Each token's mean weight is 1 for any range, and its variance is ln(high / low) / (high - low) - 1."""
    weight, t, hidden = weights_and_times(1, low, high)
    assert (t >= low - 1e-6).all() and (t <= high + 1e-6).all()
    np.testing.assert_allclose(weight, np.where(hidden, 1 / t, 0), rtol=1e-5)
    # the draw of the mask taken out: P(hidden) = t, so that the mean weight is 1 at every t
    assert (np.abs(weight.mean(axis=0) - 1) < 5 * weight.std(axis=0) / len(weight) ** 0.5).all()
    if low > 0:
        variance = np.log(high / low) / (high - low) - 1
        square = (weight - 1) ** 2
        assert (np.abs(square.mean(axis=0) - variance) < 5 * square.std(axis=0) / len(weight) ** 0.5).all()
    clipped = block(masked(V, linear()), 1, L, low, high)
    # no other objective is spared, so that a clipped range is called no bound even here
    assert clipped.bound == ("none" if low > 0 else "upper") and clipped.evaluate.bound == "upper"


def test_clipping_biases_larger_blocks():
    """A clipped range is no bound, so evaluation draws its times from [0, 1]."""
    network, times = reads_blocks(2), gauss_legendre(10)
    whole = bounds(block(diffusion(), 2, L), network, some(), *times)
    part = bounds(block(diffusion(), 2, L), network, some(), 0.45 + 0.5 * times[0], times[1])
    assert (np.abs(part - whole) > 0.01).all()
    clipped = block(masked(V, linear()), 2, L, 0.45, 0.95)
    assert clipped.bound == "none" and clipped.evaluate.bound == "upper"


@pytest.mark.few(1)
@pytest.mark.parametrize("size", [1, 2, 4])
def test_one_pass_equals_a_pass_per_block(size):
    """A real transformer gives the same logits in one pass and for each noised block after its clean prefix.

    A clean block sees the clean blocks up to its own.
    """
    length = 3 * size
    model = transformer(Architecture(V, 2, 16, 2, 2, 32), Execution())
    params = model.init(jax.random.key(0))
    x = jnp.asarray(np.random.default_rng(0).integers(V, size=length), jnp.int32)
    example = Example(x, jnp.ones(length, jnp.int32), jnp.zeros(length, bool))
    objective = block(masked(V, linear()), size, length)
    view = objective.view((), jax.random.key(1), example, 0.6)
    hidden, _ = model.hidden(params, view, objective.mask)
    together = model.head(params, hidden[:, :length])[0]
    for start in range(0, length, size):
        end = start + size
        row = jnp.concatenate([x[:start], view.tokens[0, start:end]])[None]
        positions = jnp.arange(end)[None, :, None]
        alone = view._replace(
            tokens=row, positions=positions, key_positions=positions, segments=jnp.ones((1, end), jnp.int32)
        )
        hidden, _ = model.hidden(params, alone, lambda query, key: key // size <= query // size)
        np.testing.assert_allclose(model.head(params, hidden[:, start:])[0], together[start:end], atol=1e-5)


DRAWN = {
    "sedd": lambda: sedd(uniform(V, linear()), "raw"),
    "gidd": lambda: gidd(V, linear(), 0.2, 1.0),
    "genmd4": lambda: genmd4(V),
    "tauldr": lambda: tauldr(uniform(V, linear())),
    "masked": lambda: masked(V, cosine()),
}


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("name", DRAWN)
def test_mean_nats_in_blocks_are_the_entropy(name, size):
    objective = DRAWN[name]()
    blocks = block(objective.evaluate or objective, size, L)  # under uniform times the variance may be infinite
    objective_params = objective.init(jax.random.key(0))
    mean, error = expected_nats(blocks, best_network(blocks, toy(), objective_params), toy(), jax.random.key(3), 40_000)
    assert abs(mean - entropy(toy())) < 3 * error + 1e-4 and error < 0.03 * entropy(toy())


# one token alone has a chain that is exact, however few its steps
@pytest.mark.parametrize("size", [2, 4])
def test_discrete_steps_in_blocks_tend_to_the_entropy(size):
    """With the best network the nats of T steps decrease to the entropy as T grows."""
    probability = toy().probability.ravel()
    values = []
    for steps in (2, 8, 32):
        objective = block(d3pm(uniform(V, linear()), steps, 0.0), size, L)
        times = np.arange(1, steps + 1) / steps, np.full(steps, 1 / steps)
        values.append(probability @ bounds(objective, best_network(objective, toy()), toy().tokens, *times))
    assert values[0] > values[1] > values[2] > entropy(toy()) - 1e-9
    assert values[2] - entropy(toy()) < 0.2 * (values[0] - entropy(toy())) + 1e-6


def test_optimal_denoiser_needs_no_block_boundaries():
    """At a mask the best prediction is the conditional given earlier clean blocks and the block's visible tokens."""
    objective = block(diffusion(), 2, L)
    oracle = best_network(objective, toy())
    view = jax.tree.map(lambda field: field[0], objective.view((), jax.random.key(0), example(), 0.5))
    view = view._replace(tokens=jnp.array([V, V, 0, V, *some()[1]]))
    probs = jax.nn.softmax(oracle(view), axis=-1)
    seen = (*some()[1][:2], 0, V)
    np.testing.assert_allclose(probs[3], conditionals(toy())[seen][3], rtol=1e-5)
