"""Loggers stay correct when a run repeats steps."""

import json
import struct
import sys
import types

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from mdlm_jax.costs.hardware import Peak, utilisation
from mdlm_jax.runs.metrics import open_writer, progress


def events(folder):
    """Every event that TensorBoard reads, in order. A record is its length, a checksum, the event, a checksum."""
    for path in sorted(folder.glob("*tfevents*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (size,) = struct.unpack_from("<Q", content, at)
            yield Event.FromString(content[at + 12 : at + 12 + size])
            at += size + 16


def shown(folder):
    """Tag -> steps that TensorBoard shows: a session that starts at a step purges what came at it and later."""
    points = {}
    for event in events(folder):
        if event.session_log.status == SessionLog.START:
            points = {tag: [step for step in steps if step < event.step] for tag, steps in points.items()}
        for value in event.summary.value:
            points.setdefault(value.tag, []).append(event.step)
    return points


def write(folder, loggers, start, steps):
    with open_writer(folder, loggers, start) as writer:
        for step in steps:
            writer.write({"step": step, "flops": 5.0 * step, "loss": 1.0, "tokens_per_second": 2.0, "mfu": None})
            if step % 2 == 0:
                writer.write({"step": step, "flops": 5.0 * step, "validation_loss": 1.5})


def test_tensorboard_shows_every_step_once(tmp_path):
    write(tmp_path, "tensorboard", 0, range(1, 8))
    write(tmp_path, "tensorboard", 4, range(5, 10))
    assert shown(tmp_path / "tensorboard") == {
        "train/loss": list(range(1, 10)),
        "train/flops": list(range(1, 10)),
        "speed/tokens_per_second": list(range(1, 10)),
        "validation/loss": [2, 4, 6, 8],
        "validation/flops": [2, 4, 6, 8],
    }
    lines = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == sorted([*range(1, 10), 2, 4, 6, 8])


def test_broken_line_is_dropped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\nnot JSON}\n[]\n{"loss": 1.0}\n{"step": 2, "lo')
    write(tmp_path, "", 5, ())
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "loss": 2.0}\n'


def test_wandb_plots_against_the_step(tmp_path, monkeypatch):
    calls = []
    run = types.SimpleNamespace(
        define_metric=lambda *names, **options: calls.append(("define", *names, options)),
        log=lambda scalars, **options: calls.append(("log", scalars, options)),
        finish=lambda: calls.append(("finish",)),
    )
    made = []
    fake = types.SimpleNamespace(init=lambda **options: made.append(options) or run)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for name in ("a", "b"):
        (tmp_path / name / "run").mkdir(parents=True)
        write(tmp_path / name / "run", "wandb", 0, [1, 2])
    write(tmp_path / "a" / "run", "wandb", 1, [2])
    first, other, again = (options["id"] for options in made)
    assert first == again != other and len(first) == 32 and made[0]["name"] == "run"
    assert calls[:2] == [("define", "step", {}), ("define", "*", {"step_metric": "step"})]
    assert ("log", {"step": 2, "train/flops": 10.0, "train/loss": 1.0, "speed/tokens_per_second": 2.0}, {}) in calls


@pytest.mark.parametrize(
    ("measured", "share", "now"),
    [([], 0.5, 200.0), ([400.0], 0.75, 400.0), ([250.0], None, 250.0), ([50.0], None, 200.0)],
)
def test_exceeded_peak_is_remeasured(measured, share, now):
    again = iter(measured)
    found, peak = utilisation(Peak(200.0, lambda: next(again)), 300.0 if measured else 100.0)
    assert (found, peak.flops) == (share, now)


def test_datasheet_peak_is_never_remeasured():
    assert utilisation(Peak(200.0, None), 300.0)[0] is None


def test_rates_cover_the_time_between_steps():
    """From the end of one reported step to the end of the next, whenever they are reported."""
    reports = progress(10, tokens_per_step=5, flops_per_step=3.0, peak=Peak(12.0, None), shown=False)
    next(reports)
    reports.send((1, 2.0, 100.0))
    found = reports.send((4, 3.0, 102.0))
    assert found == {"loss_mean": 2.5, "tokens_per_second": 7.5, "mfu": 0.375, "seconds_left": 4.0}


def test_utilisation_above_one_is_withheld(capsys):
    reports = progress(10, tokens_per_step=1, flops_per_step=1e30, peak=Peak(1.0, lambda: 1.0), shown=True)
    next(reports)
    reports.send((1, 2.0, 0.0))
    assert reports.send((2, 2.0, 1.0))["mfu"] is None
    assert "MFU" not in capsys.readouterr().err
