"""Weights & Biases itself, offline: what it stores of a run that was killed and resumed, and how it refuses."""

import os
import pathlib
import struct
import subprocess
import sys
import time

import pytest

from mdlm_jax.runs.metrics import open_writer

pytestmark = pytest.mark.slow
BLOCK, HEADER = 32768, 7


def records(path: pathlib.Path):
    """The records of a .wandb file, which has the log format of LevelDB."""
    from wandb.proto import wandb_internal_pb2

    data, position, record = path.read_bytes(), HEADER, b""
    while position + HEADER <= len(data):
        if BLOCK - position % BLOCK < HEADER:
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + HEADER])
        record += data[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if position > len(data):
            return  # the last record is not whole yet
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""


def whole(path: pathlib.Path) -> list:
    """All records. Another process writes them, and may still do so after the run has finished."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = list(records(path))
        if found and found[-1].WhichOneof("record_type") == "exit":
            return found
        time.sleep(0.2)
    raise AssertionError(f"{path} has no end")


def test_repeated_steps(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for start, steps in ((0, (1, 2, 3)), (1, (2, 3, 4))):
        with open_writer(tmp_path, "wandb", start) as writer:
            for step in steps:
                writer.write({"step": step, "loss": 10.0 * start + step})
    points, identities, metrics = {}, set(), []
    for path in sorted(tmp_path.glob("wandb/offline-run-*/*.wandb")):
        for record in whole(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                identities.add(record.run.run_id)
            elif kind == "metric":
                metrics.append((record.metric.name or record.metric.glob_name, record.metric.step_metric))
            elif kind == "history":
                values = {item.key or "/".join(item.nested_key): float(item.value_json) for item in record.history.item}
                points[values["step"]] = values["train/loss"]
    assert points == {1: 1.0, 2: 12.0, 3: 13.0, 4: 14.0}
    assert len(identities) == 1
    assert ("*", "step") in metrics


def test_no_key(tmp_path):
    environment = os.environ | {"HOME": str(tmp_path), "WANDB_MODE": "online"}  # no stored key
    environment.pop("WANDB_API_KEY", None)
    made = "from mdlm_jax.cli.main import exit_code; from mdlm_jax.runs.metrics import open_writer; import pathlib; "
    opened = "raise SystemExit(exit_code(lambda: open_writer(pathlib.Path(), 'wandb', 0).__enter__()))"
    refused = subprocess.run(
        [sys.executable, "-c", made + opened], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert refused.returncode == 2
    *_, line = refused.stderr.splitlines()
    assert "Traceback" not in refused.stderr
    assert "config.train.loggers has wandb: No API key" in line and line.endswith("or with WANDB_MODE=offline")
