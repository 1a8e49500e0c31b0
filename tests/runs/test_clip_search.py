"""Variance of the block diffusion loss by noise-level range, against its closed form for blocks of one token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.data import Example
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives.block import block
from mdlm_jax.objectives.masked import masked
from mdlm_jax.runs import say
from mdlm_jax.runs.clip_search import clip_variances, ranges
from mdlm_jax.schedules import linear

V, L = 5, 4


@pytest.mark.slow  # every range is compiled
def test_variance_matches_the_formula(monkeypatch, capsys):
    """A token is masked with probability t and then costs CE / t, with t uniform in [low, high].

    The variance is therefore CE^2 (ln(high/low)/(high-low) - 1). Times are stratified over the blocks of a row, so each
    row here holds one block.
    """
    model = transformer(Architecture(V, 1, 8, 1, 1, 8), Execution())
    params = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0)))  # logits of 0: CE = log V everywhere
    rows = Example(jnp.zeros((400, 1), jnp.int32), jnp.ones((400, 1), jnp.int32), jnp.zeros((400, 1), bool))
    monkeypatch.setattr(say, "FIRST_SECONDS", -1)
    found = clip_variances(
        model,
        lambda low, high: block(masked(V, linear()), 1, 1, low, high),
        params,
        (),
        rows,
        draws=40,
        chunk=1,
    )
    told, count = capsys.readouterr().err.splitlines(), len(ranges())
    assert [line.partition(",")[0] for line in told] == [
        f"mdlm-jax: ranges of noise levels: {number} of {count}" for number in range(2, count + 1)
    ]
    assert {(clip.low, clip.high) for clip in found} == set(ranges()) and (0.0, 1.0) in ranges()
    assert found[0][:2] == (0.7, 1.0)  # of the ranges at least 0.3 wide, the nearest to t = 1, where nothing varies
    for low, high, mean, variance in found:
        if low >= 0.3:
            expected = np.log(V) ** 2 * (np.log(high / low) / (high - low) - 1)
            np.testing.assert_allclose(mean, np.log(V), rtol=0.05)
            np.testing.assert_allclose(variance, expected, rtol=0.1)
