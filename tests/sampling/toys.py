"""A toy distribution small enough to enumerate, and the network that knows it: a table behind the interface of
`Model`."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from mdlm_jax.exact.evidence import leave_one_out
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Cache, Model
from mdlm_jax.processes.base import likelihood

V, L = 3, 3
RARE = 1e-4  # chi-square p-value under which a sampler is wrong: all of them together fail one time in a thousand


@functools.cache
def all_states() -> np.ndarray:
    """[state, position]: every sequence of L tokens."""
    return np.array(list(itertools.product(range(V), repeat=L)))


@functools.cache
def toy_joint() -> np.ndarray:
    """[state]: the probability of each."""
    return np.random.default_rng(0).dirichlet(np.full(V**L, 0.4))


@functools.cache
def conditionals() -> np.ndarray:
    """[tokens and masks .., position, token]: the distribution of each position given what is not hidden."""
    states, joint = all_states(), toy_joint()
    table = np.zeros((V + 1,) * L + (L, V))
    for partial in itertools.product(range(V + 1), repeat=L):
        agrees = np.all((np.array(partial) == V) | (partial == states), axis=1)
        probs = np.stack([[joint[agrees & (states[:, i] == v)].sum() for v in range(V)] for i in range(L)])
        table[partial] = probs / probs.sum(axis=1, keepdims=True)
    return table


@functools.cache  # one for all tests, so that what is compiled once serves again
def oracle() -> Model:
    """Answers with the exact conditionals: of every position when it reads a row, of the target when it reads an
    order."""
    log_table = jnp.log(jnp.asarray(conditionals(), jnp.float32) + 1e-30)
    architecture = Architecture(V, layers=1, width=V, heads=1, key_value_heads=1, mlp_width=1)

    def hidden(params, view, mask, cache=None):
        if cache is None:
            return log_table[tuple(view.tokens.T)], None
        own, target = view.key_positions[..., 0], view.positions[..., -1]
        if view.positions.shape[-1] == 1:  # left to right, a position reads the token before its target
            own = own - 1
        # the cache holds the tokens read so far and where each stands; the start symbol stands at -1
        stored = zip(cache.layers, (view.tokens, own), strict=True)
        tokens, positions = (jax.lax.dynamic_update_slice_in_dim(old, new, cache.length, axis=1) for old, new in stored)
        rows, out = jnp.arange(len(tokens)), []
        for n in range(view.tokens.shape[1]):
            read = (jnp.arange(L)[None] <= cache.length + n) & (positions >= 0)
            partial = jnp.full((len(tokens), L + 1), V).at[rows[:, None], jnp.where(read, positions, L)].set(tokens)
            out.append(log_table[tuple(partial[:, :L].T)][rows, target[:, n]])
        return jnp.stack(out, axis=1), Cache((tokens, positions), cache.length + len(out))

    def empty_cache(batch, positions):
        return Cache((jnp.zeros((batch, positions), jnp.int32), jnp.full((batch, positions), -1)), jnp.int32(0))

    return Model(lambda key: (), hidden, lambda params, hidden: hidden, empty_cache, architecture)


def oracle_of(parameterization, objective_params=(), joint=None, given=0) -> Model:
    """Answers at every t as the best network of an objective does: `parameterization` is its objective_params ->
    Parameterization. The first `given` tokens are without noise."""
    joint = jnp.asarray((toy_joint() if joint is None else joint).reshape((V,) * L), jnp.float32)

    def hidden(params, view, mask, cache=None):
        said, t = parameterization(objective_params), view.t
        evidence = likelihood(said.process, view.tokens, t)
        clean = jnp.arange(V) == view.tokens[..., None]
        evidence = jnp.where(jnp.arange(L)[:, None] < given, clean, evidence)
        distributions = jax.vmap(lambda shown: leave_one_out(joint, shown))(evidence)
        return said.logits(distributions, view.tokens, t), None

    return oracle()._replace(hidden=hidden)


def counts(tokens) -> np.ndarray:
    """How often each state came."""
    index = np.ravel_multi_index(np.asarray(tokens).T, (V,) * L)
    return np.bincount(index, minlength=V**L)
