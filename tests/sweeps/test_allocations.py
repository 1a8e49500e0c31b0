"""SLURM allocations that share runs, without a SLURM."""

import pytest

from mdlm_jax.runs import attempts
from mdlm_jax.sweeps import allocations, launch, slurm
from mdlm_jax.sweeps.jobs import Job


@pytest.mark.parametrize("forgiven, again", [(1, True), (0, False)], ids=["retried", "failed"])
def test_stopped_allocation_returns_for_what_is_left(tmp_path, monkeypatch, forgiven, again):
    """A run that failed before `sweep retry` is left; one that failed since is not."""
    attempts.end(tmp_path, attempts.claim(tmp_path, attempts.this_process(), 0), "failed", 1, "step 3: loss nan")
    requeued = []
    monkeypatch.setattr(slurm, "requeue", lambda: requeued.append(True))
    monkeypatch.setattr(allocations, "_slots", list)
    stopped = launch.Snapshot(waiting=[], running=[], ended=[], stopping=True)
    monkeypatch.setattr(launch, "run_pool", lambda jobs, slots, is_done, watch, *_: watch(stopped))
    allocations.work_on_all([Job(tmp_path, 1.0, 1, forgiven=forgiven)])
    assert bool(requeued) == again
