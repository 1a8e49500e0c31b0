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


def tuned():
    return rules.AdamSettings(learning_rate=1e-3, beta_1=0.9, beta_2=0.999, epsilon=1e-8, weight_decay=0.1)


def test_square_root_rule_by_hand():
    """Four times the batch: twice the rate, a fourfold distance of the betas from 1, half of epsilon."""
    found = rules.square_root_rule(tuned(), 4.0)
    assert found == pytest.approx((2e-3, 0.6, 0.996, 5e-9, 0.2))
    assert rules.square_root_rule(found, 1 / 4) == pytest.approx(tuned())
    with pytest.raises(ValueError, match="outside"):
        rules.square_root_rule(tuned(), 11.0)


def test_square_root_rule_keeps_the_path_of_noise():
    """RMSprop on pure noise, whose path the rule keeps: the variance of a weight after the same number of rows.

    Gradients of B rows have variance 1 / B. Their root mean square is then 1 / sqrt(B), so every update has a size of
    one learning rate, and the variance after D rows is D / B squared learning rates.
    """
    small, large, ratio, rows = tuned(), rules.square_root_rule(tuned(), 4.0), 4, 10_000
    assert rows / ratio * large.learning_rate**2 == pytest.approx(rows * small.learning_rate**2)
    # weights shrink by the same factor over the same rows, and moments forget over the same rows
    assert large.learning_rate * large.weight_decay / ratio == pytest.approx(small.learning_rate * small.weight_decay)
    assert (1 - large.beta_2) / ratio == pytest.approx(1 - small.beta_2)


def test_timescale_is_kept():
    """Decay and batch double together; at the same tokens per parameter a longer run has less decay."""
    one = rules.timescale(1e-3, 0.1, 5e5, 1e10)
    assert one == pytest.approx(0.5)
    assert rules.weight_decay_of(one, 1e-3, 1e6, 1e10) == pytest.approx(0.2)
    assert rules.weight_decay_of(rules.carried_timescale(one, 20.0, 20.0), 1e-3, 5e5, 4e10) == pytest.approx(0.025)
    assert rules.carried_timescale(one, 20.0, 200.0) == pytest.approx(one * 10**-0.527)


def test_critical_batch():
    """Noise of 12 around a squared norm of 3 is equal to it in the mean of 4 rows; there the tokens are doubled."""
    assert rules.critical_batch(12.0, 3.0, 512) == 4 * 512
    assert rules.tokens_over_least(2048.0, 2048.0) == 2
    with pytest.raises(ValueError, match="more steps"):
        rules.critical_batch(12.0, -0.1, 512)


def test_batch_is_whole_rows_for_all_devices():
    assert rules.rows(10_000.0, 2048) == 5
    assert rules.rows(1e6, 2048, 8) == 488
    assert rules.rows(10.0, 2048, 8) == 8
