"""One loss sequence on every mesh, and what a mesh refuses."""

import functools
import itertools
import json
import math
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from mdlm_jax.build.mesh import check_mesh
from mdlm_jax.configs import base
from mdlm_jax.errors import UserError
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.layout import AXES
from mdlm_jax.training.sharding import make_mesh, share_of_rows
from tests import run_folders as runs

TOLERANCE = 2e-5  # relative, float32: sums over devices are taken in another order
HANG_SECONDS = 900
OBJECTIVES = {
    "ar": {"objective.name": "ar"},
    "masked": {"objective.name": "masked"},
    "blocks": {"objective.name": "masked", "objective.block_size": 4},  # views of 2 L positions, L of them scored
}
ALL = [sizes for sizes in itertools.product((1, 2, 4, 8), repeat=4) if math.prod(sizes) == 8]
SOME = [(8, 1, 1, 1), (1, 2, 4, 1), (1, 2, 1, 4), (2, 1, 2, 2)]
# every axis alone, and every two axes together: compiling for a mesh takes seconds
PAIRS = [(8, 1, 1, 1), (1, 8, 1, 1), (1, 1, 8, 1), (1, 1, 1, 8), (2, 2, 2, 1), (4, 1, 1, 2), (1, 2, 2, 2)]
OTHERS = {
    "any_order": {},
    "any_order_causal": {},
    "masked_lm": {},
    "genmd4": {},
    "d3pm": {"objective.process": "uniform"},
    "tauldr": {"objective.process": "uniform"},
    "sedd": {"objective.process": "uniform", "objective.block_size": 4},
    "gidd": {},
    "gaussian": {},
}
VARIANTS = {
    "attention in blocks": {"train.attention": "blocked", "data.sequence_length": 512, "train.batch_size": 4},
    "recomputed, unrolled": {"train.remat": "dots", "train.scan_layers": False},
    "accumulated": {"train.microbatches": 2},
    "scored positions only": {"train.scored_only": True},
    "noise level told": {"objective.name": "gidd", "model.head_bias": True, "model.attention_bias": True},
    "few keys, norms": {"model.key_value_heads": 2, "model.qk_norm": True, "model.mlp_bias": True},
    "tied, dropout": {"model.tied_head": True, "model.dropout": 0.1},
    "documents": {"data.random_length_rate": 0.5},
    "mean of rows": {"data.random_length_rate": 0.5, "train.loss_per": "sequence"},
    "mean of rows by answers": {"data.random_length_rate": 0.5, "train.loss_per": "answer"},
    "adapters": {"model.lora_rank": 2},
    "learned density": {"objective.density": "learned:rate=0.1", "train.microbatches": 2},
    "schedule-free": {"optim.name": "schedule_free", "optim.decay": "constant"},
    "Muon, CompleteP": {"optim.name": "muon", "model.parametrization": "completep", "model.base_width": 8},
}
# from a family, whose runs share a process, to the keys and meshes of each run
FAMILIES = {
    "masks": {
        "masked": (OBJECTIVES["masked"], PAIRS),
        "ar": (OBJECTIVES["ar"], SOME),
        "blocks": (OBJECTIVES["blocks"], [(1, 2, 2, 2), *SOME[1:]]),
    },
    "objectives": {name: ({"objective.name": name} | keys, [(2, 4, 1, 1)]) for name, keys in OTHERS.items()},
    "options": {name: (keys, [(2, 1, 2, 2)]) for name, keys in VARIANTS.items()},
    "all": {"masked on all meshes": (OBJECTIVES["masked"], ALL)},
}


@functools.cache
def losses(family: str) -> tuple[dict[str, np.ndarray], str]:
    """(from each run of a family to its losses [1 + meshes, steps], first on one device; standard error)."""
    cases = FAMILIES[family]
    asked = [[keys, [(1, 1, 1, 1), *meshes]] for keys, meshes in cases.values()]
    done = subprocess.run(
        [sys.executable, "-m", "tests.runs.mesh_losses", json.dumps(asked)],
        env=runs.environment(devices=8),
        cwd=runs.ROOT,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )
    return dict(zip(cases, map(np.array, map(json.loads, done.stdout.splitlines())), strict=False)), done.stderr


@pytest.mark.parametrize(
    ("family", "run"),
    [
        pytest.param(family, run, marks=pytest.mark.study if family == "all" else pytest.mark.slow)
        for family, cases in FAMILIES.items()
        for run in cases
    ],
)
def test_every_mesh_keeps_losses(family, run):
    found, said = losses(family)
    assert run in found, said
    one, *others = found[run]
    assert len(others) == len(FAMILIES[family][run][1])
    np.testing.assert_allclose(others, np.broadcast_to(one, np.shape(others)), rtol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "processes", "devices", "sizes"),
    [("ar", 2, 2, (1, 2, 1, 2)), ("blocks", 4, 1, (1, 2, 2, 1)), ("masked", 4, 1, (1, 1, 4, 1))],
    ids=["2 processes, heads inside each", "4 processes, two for a row", "4 processes, all for a row"],
)
def test_several_processes_keep_losses(tmp_path, free_port, objective, processes, devices, sizes):
    keys = {key.replace(".", "__"): value for key, value in OBJECTIVES[objective].items()}
    mesh = {f"train__mesh_{axis}": size for axis, size in zip(AXES, sizes, strict=True)}
    runs.train(tmp_path / "one", steps=4, **keys)
    joined = ("--coordinator", f"localhost:{free_port}", "--processes", str(processes), "--process")
    started = [
        runs.start(tmp_path / "many", *joined, str(rank), devices=devices, steps=4, **keys, **mesh)
        for rank in range(processes)
    ]
    for process in started:
        runs.finish(process)
    one, many = (
        [line["loss"] for line in map(json.loads, (tmp_path / name / "metrics.jsonl").open()) if "loss" in line]
        for name in ("one", "many")
    )
    assert len(one) == 4
    np.testing.assert_allclose(many, one, rtol=TOLERANCE)


class Device:
    """As much of a device as a mesh looks at; no tuple, which numpy would take apart."""

    def __init__(self, id: int, process_index: int):
        self.id, self.process_index = id, process_index


def mesh_of_hosts(sizes, per_process: int) -> Mesh:
    devices = [Device(index, index // per_process) for index in range(math.prod(sizes))]
    return Mesh(np.array(devices).reshape(sizes), AXES)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"mesh_fsdp": 2, "mesh_tensor": 4}, "mesh_tensor is 4; accepted: a divisor of 6, the model's heads"),
        ({"mesh_fsdp": 4, "mesh_tensor": 2}, "mesh_tensor is 2; accepted: a divisor of 3, the model's key_value_heads"),
        ({"mesh_sequence": 8}, "mesh_sequence is 8; .* a divisor of 20, the positions of a row that are read"),
        ({"mesh_data": 2, "mesh_sequence": 4}, "mesh_sequence is 4; .* a divisor of 10, .* that are scored"),
        ({"mesh_fsdp": 8, "batch_size": 12}, "batch_size is 12; accepted: microbatches x a multiple of 8"),
        ({"mesh_sequence": 2, "runner": "shard_map"}, "runner is 'shard_map'; accepted: jit, where mesh_sequence"),
        ({"mesh_sequence": 2, "attention": "splash"}, "attention is 'splash'; accepted: another"),
        ({"mesh_tensor": 2, "runner": "pmap"}, "runner is 'pmap'; accepted: jit, where mesh_sequence"),
    ],
)
def test_indivisible_mesh_is_refused(keys, message):
    architecture = Architecture(32, 1, 24, heads=6, key_value_heads=3, mlp_width=96)
    config = base.get_config()
    config.train.batch_size, config.train.mesh_fsdp = 8, 1
    config.update_from_flattened_dict({f"train.{key}": value for key, value in keys.items()})
    mesh = mesh_of_hosts([config.train[f"mesh_{axis}"] for axis in AXES], per_process=8)
    with pytest.raises(UserError, match=message) as refused:
        check_mesh(config, architecture, mesh, positions=20, scored=10)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("sequence", "tensor"), [(3, 1), (1, 0), (0, 1), (-1, 1)])
def test_mesh_must_use_all_devices(sequence, tensor):
    with pytest.raises(
        UserError, match=f"1 x -1 x {sequence} x {tensor}; accepted: a product of 1, as many as devices"
    ):
        make_mesh(jax.devices(), data=1, fsdp=-1, sequence=sequence, tensor=tensor)


@pytest.mark.parametrize(
    ("sizes", "per_process", "shares"),
    [
        ((2, 4, 1, 1), 2, [(0, 4), (1, 4), (2, 4), (3, 4)]),
        ((1, 2, 2, 2), 4, [(0, 2), (1, 2)]),
        ((1, 2, 4, 1), 2, [(0, 2), (0, 2), (1, 2), (1, 2)]),  # two processes hold the positions of the same rows
        ((1, 1, 8, 1), 4, [(0, 1), (0, 1)]),
    ],
)
def test_processes_with_equal_rows_read_equal_data(monkeypatch, sizes, per_process, shares):
    mesh = mesh_of_hosts(sizes, per_process)
    for process, expected in enumerate(shares):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        assert share_of_rows(mesh) == expected
