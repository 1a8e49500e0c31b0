"""The environment variables and options that make a process join others."""

import jax
import pytest

from mdlm_jax.cli.devices import check_processes, join_processes
from mdlm_jax.errors import UserError


@pytest.fixture
def joined(monkeypatch) -> list[tuple]:
    """The arguments of every call of jax.distributed.initialize, which is not made."""
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *arguments: calls.append(arguments))
    for name in ("SLURM_STEP_NUM_TASKS", "TPU_WORKER_HOSTNAMES", "MEGASCALE_NUM_SLICES"):
        monkeypatch.delenv(name, raising=False)
    return calls


@pytest.mark.parametrize(
    ("environment", "joins"),
    [
        ({}, False),
        ({"SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"SLURM_STEP_NUM_TASKS": "2"}, True),
        ({"TPU_WORKER_HOSTNAMES": "worker-0"}, False),
        ({"TPU_WORKER_HOSTNAMES": "worker-0,worker-1"}, True),
        ({"TPU_WORKER_HOSTNAMES": "worker-0", "MEGASCALE_NUM_SLICES": "2"}, True),
    ],
)
def test_environment_decides(monkeypatch, joined, environment, joins):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    join_processes("", 0, 0)
    assert joined == [()] * joins


def test_options_override_the_environment(monkeypatch, joined):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    join_processes("host0:1234", 4, 3)
    assert joined == [("host0:1234", 4, 3)]


@pytest.mark.parametrize("options", [("host0:1234", 0, 0), ("", 2, 0), ("host0:1234", 2, 2), ("", 0, 1)])
def test_partial_options_are_refused(options):
    with pytest.raises(UserError, match="all three together"):
        check_processes(*options)
