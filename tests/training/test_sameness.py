"""One loss sequence however the step is run: the promise that a comparison of objectives rests on."""

import json

import numpy as np
import pytest

from tests import run_folders as runs

STEPS = 6
TOLERANCE = 2e-5  # relative, float32: sums over devices are taken in another order


def losses(folder) -> np.ndarray:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found = [line["loss"] for line in lines if "loss" in line]
    assert len(found) == STEPS
    return np.array(found)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> np.ndarray:
    """One device, plain jit, no accumulation."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    runs.train(folder, steps=STEPS)
    return losses(folder)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("devices", "keys"),
    [
        (8, {"train__mesh_fsdp": 8}),
        (4, {"train__mesh_data": 2, "train__microbatches": 2, "train__scan_layers": True}),
        (1, {"train__microbatches": 4, "train__remat": "full"}),
        (4, {"train__mesh_data": 2, "train__scored_only": True}),
        pytest.param(8, {"train__runner": "pmap", "train__scored_only": True}, marks=pytest.mark.slow),
        pytest.param(8, {"train__runner": "shard_map", "train__scored_only": True}, marks=pytest.mark.slow),
        pytest.param(8, {"train__runner": "pmap"}, marks=pytest.mark.slow),
        pytest.param(8, {"train__runner": "shard_map"}, marks=pytest.mark.slow),
        pytest.param(2, {"train__runner": "shard_map", "train__microbatches": 2}, marks=pytest.mark.slow),
        pytest.param(1, {"train__microbatches": 2}, marks=pytest.mark.slow),
        pytest.param(1, {"train__loss_chunk": 4, "train__remat": "dots"}, marks=pytest.mark.slow),
    ],
    ids=lambda value: str(value).replace("train__", ""),
)
def test_one_loss_sequence(tmp_path, plain, devices, keys):
    runs.train(tmp_path / "run", devices=devices, steps=STEPS, **keys)
    np.testing.assert_allclose(losses(tmp_path / "run"), plain, rtol=TOLERANCE)


@pytest.mark.slow
def test_two_processes(tmp_path, plain, free_port):
    """Real processes joined by jax.distributed each hold half of every batch."""
    shared = ("--coordinator", f"localhost:{free_port}", "--processes", "2", "--process")
    processes = [runs.start(tmp_path / "run", *shared, str(rank), steps=STEPS) for rank in range(2)]
    for process in processes:
        runs.finish(process)
    np.testing.assert_allclose(losses(tmp_path / "run"), plain, rtol=TOLERANCE)
