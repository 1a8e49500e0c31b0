"""The live display, against cases worked out by hand."""

import io
import json

import pytest
from rich.console import Console
from rich.table import Column, Table

from mdlm_jax.sweeps import live
from mdlm_jax.sweeps.launch import Ended, Job, Running, Slot, Snapshot
from mdlm_jax.tables import show


def job(folder, flops, lines=()):
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Job(folder, flops, 100)


@pytest.fixture
def pool(tmp_path):
    """At second 100: a run of 10 s done; one that began at 90 with 30 s left; one that began at 95 and said nothing."""
    slot = Slot(frozenset(), {})
    started = [
        Running(job(tmp_path / "told", 4.0, [{"step": 25, "loss": 2.5, "seconds_left": 30.0}]), slot, None, 90.0),
        Running(job(tmp_path / "new", 2.0), slot, None, 95.0),
    ]
    ended = [
        Ended(job(tmp_path / "short", 1.0), "done", 10.0, 0, ""),
        Ended(job(tmp_path / "bad", 1.0), "failed", 3.0, 1, "killed by SIGKILL"),
    ]
    return Snapshot([job(tmp_path / "next", 3.0)], started, ended, False)


def seconds_left(pool):
    return live.seconds_left(live.pace_of_pool(pool, 100.0))


def test_seconds_left(pool):
    # 10 s/FLOP from (10 + 40) / (1 + 4); left are 30, 2 x 10 - 5 and, waiting, 3 x 10, on two places
    assert seconds_left(pool) == pytest.approx((30 + 15 + 30) / 2)
    assert seconds_left(pool._replace(waiting=[])) == pytest.approx(30), "the longest run ends last"
    nothing = pool._replace(running=pool.running[1:], ended=pool.ended[1:])
    assert seconds_left(nothing) is None


def test_last_metrics_is_the_newest_loss(tmp_path):
    lines = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}, {"step": 2, "validation_loss": 1.0}]
    folder = job(tmp_path / "run", 1.0, lines).folder
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    assert live.last_metrics(folder)["step"] == 2
    assert live.last_metrics(tmp_path / "none") == {}


def shown(pool, terminal):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    with live.display(5, console) as watch:
        watch(pool)
        watch(pool)  # nothing new, so nothing is said
    return console.file.getvalue()


def test_lines_or_table(pool, tmp_path):
    """Without a terminal the display prints lines, in a terminal a table."""
    (tmp_path / "bad" / "log.txt").write_text("\n".join(f"line {i}" for i in range(100)))
    plain = shown(pool, terminal=False)
    assert plain.count("6 done, 2 running, 1 failed, 1 left") == 1
    assert plain.count("done     short  0:10") == 1
    assert "failed   bad: killed by SIGKILL" in plain and "  | line 99" in plain and "line 84" not in plain
    assert "\x1b" not in plain
    table = shown(pool, terminal=True)
    assert "25 / 100" in table and "2.5000" in table and "0:30" in table and "starting" in table


def test_narrow_output_keeps_the_table(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    table = Table("name", Column("value", justify="right"))
    table.add_row("a" * 30, "[b]")
    table.add_row("å", "b" * 30)
    show(table)
    assert capsys.readouterr().out.splitlines()[1:] == ["a" * 30 + " " * 29 + "[b]", "å" + " " * 31 + "b" * 30]
