"""Small runs, started as a person would: by the command line, in processes of their own."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
TINY = {
    "data.source": "markov",
    "data.path": "vocab=8,concentration=0.3",
    "data.sequence_length": 16,
    "model.size": "4k",
    "train.batch_size": 8,
    "train.log_every": 1,
    "eval.sequences": 16,
    "eval.draws": 2,
    "eval.batch_size": 16,
    "optim.warmup_min": 2,
}


def command(folder: pathlib.Path, *extra: str, config: str = "base", **keys) -> list[str]:
    """`mdlm-jax train` of a tiny run; `keys` are dotted config keys with __ for dots."""
    values = TINY | {key.replace("__", "."): value for key, value in keys.items()}
    return [
        *(sys.executable, "-m", "mdlm_jax", "train", "--run", str(folder)),
        *("--config", str(ROOT / "configs" / f"{config}.py")),
        *(f"--config.{key}={value}" for key, value in values.items()),
        *extra,
    ]


# compiles fast, with what every version of XLA knows
CHEAP_FLAGS = "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"


def environment(devices: int = 1) -> dict[str, str]:
    # with the cheapest flags of all, devices of one process may wait for each other without end
    chosen = os.environ.get("XLA_FLAGS", "") if devices == 1 else CHEAP_FLAGS
    flags = f"{chosen} --xla_force_host_platform_device_count={devices}"
    return os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}


def start(folder: pathlib.Path, *extra: str, devices: int = 1, **keys) -> subprocess.Popen:
    return subprocess.Popen(
        command(folder, *extra, **keys),
        env=environment(devices),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen, expect: int = 0) -> str:
    """Its output; fails where it ends in another way than expected."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == expect, f"exit code {process.returncode}\n{out}\n{err}"
    return out + err


def train(folder: pathlib.Path, *extra: str, devices: int = 1, expect: int = 0, **keys) -> str:
    return finish(start(folder, *extra, devices=devices, **keys), expect)


def train_again(*folders: pathlib.Path, devices: int = 1, expect: int = 0) -> str:
    """Runs that were started before, together."""
    words = [sys.executable, "-m", "mdlm_jax", "train", "--run", *map(str, folders)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return finish(subprocess.Popen(words, env=environment(devices), **pipes), expect)


def own_lines(text: str) -> list[str]:
    """Lines that the command says of itself, without the progress that it reports when a machine is slow."""
    return [line for line in text.splitlines() if line.startswith("mdlm-jax: ") and not line.endswith((" s", " .."))]
