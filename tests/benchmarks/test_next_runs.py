"""A few sweeps of the study of `propose`, and what its stored result says."""

import json

import numpy as np

from benchmarks.next_runs import RESULT, summary, sweep


def test_chosen_runs_narrow_the_interval_more_than_a_grid():
    found = summary([sweep(seed) for seed in range(1000, 1004)])
    assert found["mean_ratio_of_widths"] < 0.8
    assert found["next"]["mean_width"] < found["uniform"]["mean_width"]


def test_stored_study():
    stored = json.loads(RESULT.read_text())
    assert stored["sweeps"] >= 200 and not stored["refused"]
    assert stored["mean_ratio_of_widths"] + 2 * stored["standard_error"] < 0.7
    low = 0.95 - 2 * np.sqrt(0.95 * 0.05 / stored["sweeps"])
    assert stored["next"]["coverage"] >= low and stored["next"]["rmse"] < stored["uniform"]["rmse"]
