"""Schedules of counts against the public code's numbers, and their use by the sampler."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.sampling import Confidence, sample
from mdlm_jax.sampling.counts import COUNTS, CURVES, along, count_table
from tests import public_data
from tests.sampling.toys import L, V, oracle


def test_unidisc_counts():
    arrays, _ = public_data.golden("samplers_taped")
    names = [name for name in arrays if name.startswith("unidisc/adap_sche/")]
    assert len(names) == 45
    for name in names:
        curve, masked, steps = name.rsplit("/", 1)[1].split("_")
        found = along(CURVES[curve])(int(masked[1:]), int(steps[1:]))
        np.testing.assert_array_equal(found, arrays[name][0], err_msg=name)


def test_llada_counts():
    _, description = public_data.golden("llada_fastdllm_v1")
    for name, expected in description["llada_get_num_transfer_tokens"].items():
        assert COUNTS["linear"](*map(int, name.split("_"))).tolist() == expected


def test_dllm_rounds_half_to_even():
    """8 masks in 3 steps: 8 / 3, then 5 / 2, which ties to 2; LLaDA gives the first steps more."""
    assert COUNTS["dllm_linear"](8, 3).tolist() == [3, 2, 3] and COUNTS["linear"](8, 3).tolist() == [3, 3, 2]
    # steps without a token are left out: of 2 masks in 8 steps
    assert COUNTS["dllm_linear"](2, 8).tolist() == [1, 1, 0, 0, 0, 0, 0, 0]


def test_dllm_cosine_is_its_definition():
    shares = [1 - np.sin(np.pi / 2 * s) / np.sin(np.pi / 2 * t) for t, s in ((1, 0.75), (0.75, 0.5), (0.5, 0.25))]
    left, expected = 100, []
    for share in shares:
        expected.append(round(left * share))
        left -= expected[-1]
    assert COUNTS["dllm_cosine"](100, 4).tolist() == [*expected, left]


def test_smdm_counts_round_down():
    """Its grid ends at 1e-5, so that an exact quotient falls just short."""
    assert COUNTS["smdm"](8, 4).tolist() == [1, 2, 2, 3] and COUNTS["smdm"](1, 4).tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("name", COUNTS)
def test_every_mask_is_counted(name):
    for masked in range(1, 20):
        for steps in range(1, 25):
            counts = COUNTS[name](masked, steps)
            assert len(counts) == steps and counts.min() >= 0 and counts.sum() >= masked
            np.testing.assert_array_equal(count_table(name, 20, (steps,))[0, masked], counts)


@pytest.mark.parametrize("name", ["dllm_cosine", "smdm", "arccos"])
def test_sampler_unmasks_the_counts(name):
    model = oracle()._replace(hidden=lambda params, view, mask, cache=None: (jnp.zeros((*view.tokens.shape, V)), None))
    sampler = Confidence(counts=name, steps=8, block_size=8, confidence="random")
    _, trace = sample(jax.random.key(0), model, (), np.zeros((2, 3), np.int32), sampler, 19)
    for block in (slice(3, 11), slice(11, 19)):
        step = np.asarray(trace.step[:, block])
        expected = [count for count in COUNTS[name](8, 4) if count]
        for row in step:
            np.testing.assert_array_equal(np.unique(row, return_counts=True)[1], expected)


@pytest.mark.parametrize("sampler", [Confidence(counts="smdm"), Confidence(counts="smdm", rule="factor", limit=1.0)])
def test_counts_need_steps(sampler):
    with pytest.raises(UserError, match="counts smdm: accepted with steps, and rule quota or dynamic"):
        sample(jax.random.key(0), oracle(), (), np.zeros((1, 0), np.int32), sampler, L)
