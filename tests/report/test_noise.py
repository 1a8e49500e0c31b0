"""The variance of a loss, split into its sources."""

import math

from mdlm_jax.report.text.noise import noise
from tests import synthetic


def test_split_is_by_hand():
    (run, *_) = synthetic.sweep("masked", 4.0, (1e10,))
    runs = [
        run._replace(seed=seed, size=size, loss=loss, loss_monte_carlo_error=0.003, loss_standard_error=0.005)
        for size, losses in {"4k": (2.0, 2.02), "12k": (1.9, 1.92)}.items()
        for seed, loss in enumerate(losses)
    ]
    between = math.sqrt(2 * (2 * 0.01**2) / 2)  # squares around two means, over two degrees of freedom
    assert noise(runs) == [
        f"masked: the standard deviation of one loss in nats is {between:.4f} between seeds, 0.0030 from noise draws "
        "and 0.0040 from the choice of validation text, which all runs share."
    ]


def test_one_seed_and_no_draws():
    (line,) = noise(synthetic.sweep("ar", 1.0, (1e10,), bound="exact"))
    assert line.startswith(
        "ar: the standard deviation of one loss in nats is unknown between seeds, as each run has one"
    )
    assert "noise draws" not in line


def test_unique_tokens_are_no_seeds():
    (run, *_) = synthetic.sweep("ar", 1.0, (1e10,), bound="exact")
    (line,) = noise([run, run._replace(unique_tokens=1000, loss=9.0)])
    assert "unknown between seeds" in line
