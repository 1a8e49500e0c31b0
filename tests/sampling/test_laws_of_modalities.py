"""With the exact network of a small world, samplers draw its conditionals, and a chain of both keeps its joint."""

import itertools

import jax
import numpy as np
import pytest
from scipy.stats import chi2

from mdlm_jax.sampling import FirstHitting, Trained, sample
from tests.sampling.two_modalities import IDS, TEXT, L, V, conditional, network

COUNT = 4000


def joint():
    """p over [2, 2, 3, 3], by the chain rule from the network's conditionals."""
    found = np.ones([len(ids) for ids in IDS])
    for row in itertools.product(*IDS):
        for position in range(L):
            seen = (*row[:position], *[V] * (L - position))
            own = tuple(token - (TEXT if place >= 2 else 0) for place, token in enumerate(row))
            found[own] *= conditional(seen)[position, row[position]]
    return found


def drawn(key, prompt):
    rows, _ = sample(jax.random.key(key), network(), (), prompt, FirstHitting(), trained=Trained(text_length=2))
    return np.asarray(rows)


def follows(rows, law):
    """Pearson's test of rows against a law over [2, 2, 3, 3]."""
    seen = np.zeros(law.shape)
    np.add.at(seen, tuple((rows - [0, 0, TEXT, TEXT]).T), 1)
    expected = len(rows) * law
    cells = expected > 0
    assert not seen[~cells].any()
    statistic = ((seen - expected)[cells] ** 2 / expected[cells]).sum()
    return chi2.sf(statistic, cells.sum() - 1) > 1e-3


@pytest.mark.parametrize("given", [{0: 1}, {2: 3}, {1: 0, 3: 4}, {}])
def test_infilling_law(given):
    """Whatever part is given, of one modality or both, the rest has its conditional distribution."""
    law = joint()
    for place, token in given.items():
        own = token - (TEXT if place >= 2 else 0)
        law = law * (np.arange(law.shape[place]) == own).reshape([-1 if axis == place else 1 for axis in range(L)])
    prompt = np.full((COUNT, L), V)
    prompt[:, list(given)] = list(given.values())
    assert follows(drawn(0, prompt), law / law.sum())


def test_chain_of_conditionals_keeps_the_joint():
    """Rows of the joint; then an image for each caption, and a caption for each image: the joint again (Gibbs)."""
    law = joint()
    cells = np.random.default_rng(0).choice(law.size, COUNT, p=law.ravel() / law.sum())
    rows = np.stack(np.unravel_index(cells, law.shape), axis=1) + [0, 0, TEXT, TEXT]
    for turn, left_out in enumerate(([2, 3], [0, 1])):
        prompt = rows.copy()
        prompt[:, left_out] = V
        changed = drawn(turn + 1, prompt)
        assert (changed != rows).any()
        rows = changed
    assert follows(rows, law)
