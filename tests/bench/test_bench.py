"""`mdlm-jax bench` runs where there is JAX and little else, and its numbers have floors."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from mdlm_jax.bench.cases import SUITES
from mdlm_jax.cli.main import main

ROOT = pathlib.Path(__file__).resolve().parents[2]
BLOCKED = ("grain", "tensorflow_datasets", "ml_collections", "array_record", "tokenizers", "pyarrow", "matplotlib")


def run_without(code: str, *arguments: str) -> tuple[str, str]:
    """What a program prints, as result and as progress, for which the packages above are not installed."""
    blocks = f"import sys; sys.modules.update(dict.fromkeys({BLOCKED}))\n"
    done = subprocess.run(
        [sys.executable, "-c", blocks + code, *arguments], capture_output=True, text=True, cwd=ROOT, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_bench_imports_neither_data_nor_configs():
    run_without("import mdlm_jax.cli.main, mdlm_jax.bench.suite, mdlm_jax.bench.tables")


def test_cases_differ_from_their_base():
    for suite in SUITES.values():
        base, *others = suite.cases.values()
        assert base not in others and len(set(others)) == len(others)
        assert base.beside_torch
        for case in suite.cases.values():  # PyTorch's side computes no other
            plain = case.objective in ("masked", "ar") and (case.steps_per_dispatch, case.devices, case.float8)
            assert not case.beside_torch or plain == (1, 1, False)


@pytest.mark.parametrize("python", ["/bin/false", "", "nowhere/python"])
def test_python_without_torch_is_refused_at_once(python, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--suite", "smallest", "--torch-python", python])
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and line.endswith("accepted: a Python that has torch and numpy")


@pytest.mark.slow
def test_smallest_suite_reports_times_floors_and_omissions(tmp_path):
    command = ("bench", "--suite", "smallest", "--out", str(tmp_path))
    code = "from mdlm_jax.runs import say; say.FIRST_SECONDS = 0\nfrom mdlm_jax.cli.main import main; main()"
    told, progress = run_without(code, *command)
    for part in ("the peak rate in float32", "base", "scored only", "populations", "over devices", "a checkpoint"):
        assert f"mdlm-jax: {part}, for " in progress and f"mdlm-jax: {part}: " in progress
    found = json.loads((tmp_path / "bench.json").read_text())
    assert (tmp_path / "bench.md").read_text().strip() in told
    assert list(found["steps"]) == ["base", "scored only", "dispatched together"]
    for row in found["steps"].values():
        assert row["floor_seconds"] > 0 and row["compile_seconds"] > 0 and row["memory_bytes"] > 0
        rate = found["rates"]["float32"]["matmul"]
        assert row["share_of_matmul"] * row["seconds"] * rate == pytest.approx(row["flops"])
    assert found["steps"]["scored only"]["flops"] < found["steps"]["base"]["flops"]
    assert [row["members"] for row in found["populations"]] == [1, 4, 16]
    assert [row["devices"] for row in found["over_devices"]] == [1, 2, 4, 8]
    assert all(row["times_one"] > 0 for row in found["populations"] + found["over_devices"])
    assert found["checkpoint"]["stall_seconds"] <= found["checkpoint"]["saved_seconds"]
    reasons = " ".join(found["left_out"])
    assert "no --torch-python" in reasons and "grain is not installed" in reasons and "no picture" in told
