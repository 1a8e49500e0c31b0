"""The metrics that a run writes at each step."""

import json

import pytest

from mdlm_jax.build import build
from mdlm_jax.build.training import learning_rate
from tests.runs.here import config_of, state_of, train_here

KEYS = {"steps": 6, "objective__name": "ar", "optim__warmup_min": 3, "optim__decay": "cosine", "optim__final": 0.25}


def test_logged_learning_rate(tmp_path):
    """Warm-up over 3 steps, then half a cosine from 1 to 1/4 over 3: after the first of these 0.25 + 0.75 x 0.75."""
    train_here(tmp_path / "run", **KEYS)
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    rates = [line["learning_rate"] for line in lines if "loss" in line]
    expected = [1 / 3, 2 / 3, 1, 1, 0.25 + 0.75 * 0.75, 0.25 + 0.75 * 0.25]
    assert rates == pytest.approx([0.01 * share for share in expected], rel=1e-5)
    numbers = build(config_of(**KEYS)).initial[1]
    assert learning_rate(config_of(**KEYS), numbers, 7) == pytest.approx(0.0025, rel=1e-5)
    assert int(state_of(tmp_path / "run", 6)["step"]) == 6
