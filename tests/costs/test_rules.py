"""The published rules, against what their authors trained with."""

import pytest

from mdlm_jax.costs import rules
from mdlm_jax.costs.flops import num_parameters
from mdlm_jax.models.ladder import SMDM


@pytest.mark.parametrize(
    ("layers", "width", "rate", "rows"),
    [(30, 4096, 4.2e-4, 2304), (95, 8192, 3.2e-4, 4608)],
    ids=["7B", "67B"],
)
def test_deepseek_models_follow_their_law(layers, width, rate, rows):
    """Its 7B and 67B models: 2e12 tokens in rows of 4,096, with rounded settings (arXiv 2401.02954, table 2)."""
    flops = (72 * layers * width**2 + 12 * layers * width * 4096) * 2e12
    assert rules.deepseek_learning_rate(flops) == pytest.approx(rate, rel=0.03)
    assert rules.deepseek_batch(flops) == pytest.approx(rows * 4096, rel=0.10)


@pytest.mark.parametrize(("size", "steps", "warmup"), [("170M", 18710, 187), ("2121M", 899, 100)])
def test_smdm_warmup_matches_its_code(size, steps, warmup):
    assert rules.smdm_warmup(steps) == warmup
    budget = {"170M": 1e19, "2121M": 6e18}[size]
    rows = rules.SMDM_BATCH_ROWS
    assert int(budget) // (6 * num_parameters(SMDM[size]).non_embedding * rows * 2048) == steps


def test_step_law_by_hand():
    """1e9^-0.713 1e11^0.307 = 10^(-6.417 + 3.377)."""
    assert rules.step_law_learning_rate(1e9, 1e11) == pytest.approx(1.79 * 10**-3.04)
    assert rules.step_law_batch(1e10) == pytest.approx(0.58 * 10**5.71)


def test_von_ruette_laws_agree_with_the_pooled_law():
    """The paper's law pooled over five kinds of noise is 10^-2.4 D^0.8225."""
    for tokens in (1e9, 1e10, 1e11):
        pooled = 10**-2.4 * tokens**0.8225
        assert rules.von_ruette_batch(tokens) == pytest.approx(pooled, rel=0.25)
        assert rules.von_ruette_batch(tokens, "uniform") == pytest.approx(pooled, rel=0.25)
    assert rules.von_ruette_learning_rate(1e-3, 1e5, 1e5) == 1e-3
    assert rules.von_ruette_learning_rate(1e-3, 1e5, 1e6) == pytest.approx(1e-3 * 10**0.3294684)


def test_batch_is_whole_rows_for_all_devices():
    assert rules.rows(10_000.0, 2048) == 5
    assert rules.rows(1e6, 2048, 8) == 488
    assert rules.rows(10.0, 2048, 8) == 8
