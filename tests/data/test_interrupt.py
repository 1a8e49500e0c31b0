"""`mdlm-jax data` answers Ctrl-C, and leaves nothing that looks whole where it ends early."""

import os
import pathlib
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """12 MB of different words, which take long to read, to encode and to merge."""
    letters = np.random.default_rng(0).integers(97, 123, (2_000_000, 6), dtype=np.uint8)
    letters[:, 0] = ord(" ")
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_bytes(letters.tobytes())
    return str(path)


def start(verb, *options, **changed):
    """The verb as a shell starts it, in a process group of its own."""
    root = pathlib.Path(__file__).resolve().parents[2]
    return subprocess.Popen(
        [sys.executable, "-m", "mdlm_jax", "data", verb, "--source", "text", *options],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        **changed,
    )


def wait_until(holds, seconds=60):
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert holds()


def processor_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def members(group):
    """Processes of a group, zombies left out."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


def check_interrupted(process, folder):
    """All processes end, and one line says why."""
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "mdlm-jax: interrupted" and "Traceback" not in errors
    wait_until(lambda: not members(process.pid), seconds=10)
    assert all(left.name.endswith(".incomplete") for left in folder.iterdir()), "nothing that looks whole"


@pytest.mark.slow
def test_build_can_be_interrupted(text, tmp_path):
    process = start("build", "--path", text, "--out", f"{tmp_path}/corpus", "--workers", "2")
    wait_until(lambda: list(tmp_path.glob("*.incomplete/*.array_record*")))
    check_interrupted(process, tmp_path)
    process = start("build", "--path", text, "--out", f"{tmp_path}/corpus", "--workers", "2")
    process.communicate(timeout=120)
    assert process.returncode == 0 and [file.name for file in tmp_path.iterdir()] == ["corpus"]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [2, 6])
def test_tokenizer_training_can_be_interrupted(text, tmp_path, seconds):
    """While it reads the text, and while the library merges."""
    process = start("tokenizer", "--path", text, "--out", f"{tmp_path}/bpe.json", "--size", "200000")
    wait_until(lambda: processor_seconds(process.pid) > seconds, seconds=120)
    check_interrupted(process, tmp_path)


@pytest.mark.slow
def test_full_disk_is_reported_in_one_line(text, tmp_path):
    """A file size limit fails as a full disk does: in write(), after part of a shard."""
    limit = (2_000_000, 2_000_000)
    options = ["--path", text, "--out", f"{tmp_path}/corpus", "--workers", "1"]
    process = start("build", *options, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    lines = [line for line in errors.splitlines() if not line.startswith("mdlm-jax: building the corpus")]
    assert len(lines) == 1 and lines[0].startswith(f"mdlm-jax: {tmp_path}/corpus cannot be written (")
    assert not list(tmp_path.iterdir())
    process = start("build", *options)
    assert process.wait(timeout=120) == 0
    process.communicate()


@pytest.mark.slow
def test_one_build_at_a_time(text, tmp_path):
    options = ["--path", text, "--out", f"{tmp_path}/corpus", "--workers", "1"]
    first = start("build", *options)
    wait_until(lambda: list(tmp_path.glob("*.incomplete/*.array_record*")))
    os.killpg(first.pid, signal.SIGSTOP)
    second = start("build", *options)
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 2 and "another process is building" in errors
    os.killpg(first.pid, signal.SIGCONT)
    first.communicate(timeout=120)
    assert first.returncode == 0 and [file.name for file in tmp_path.iterdir()] == ["corpus"]
