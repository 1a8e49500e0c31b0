"""Speed alone for decoding.py: weights are random, because seconds do not depend on their values."""

import json
import os
import pathlib
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np

from mdlm_jax.bench.cases import Case
from mdlm_jax.costs.flops import flops_per_sequence
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, Model, transformer
from mdlm_jax.sampling import Confidence, sample

HERE = pathlib.Path(__file__).resolve().parent
MATMUL_WIDTH = 4096
GIVEN, LENGTH, BLOCK = 192, 256, 32  # against PyTorch: the last 64 tokens of 256 are drawn, in blocks of 32
SIZES = {
    "0.8M, V = 260": Architecture(260, 4, 128, 4, 4, 384),
    "6M, V = 4,096": Architecture(4096, 6, 256, 4, 4, 1024),
    "6M, V = 32,000": Architecture(32000, 6, 256, 4, 4, 1024),
}
SHARPNESS = 3.0  # random weights this much larger say something different at every position


def timed(call: Callable) -> tuple[object, dict]:
    """The result of a call, its wall seconds and the CPU seconds of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = jax.block_until_ready(call())
    return found, {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


def network(architecture: Architecture, sharpness: float = 1.0) -> tuple[Model, dict]:
    model = transformer(architecture, Execution(use_segments=False))
    params = jax.jit(model.init)(jax.random.key(0))
    larger = {name: value * sharpness for name, value in params["ends"].items() if name == "head"}
    blocks = jax.tree.map(lambda leaf: leaf * sharpness if leaf.ndim == 3 else leaf, params["blocks"])
    return model, {"ends": params["ends"] | larger, "blocks": blocks}


def flops(architecture: Architecture, read: int, keys: int, scored: int) -> float:
    """FLOPs of one evaluation of some positions of a row, each attending to `keys`, with logits at `scored` of them."""
    counted = flops_per_sequence(
        architecture, sequence_length=read, pairs=read * keys, positions=read, scored=scored, noise_levels=0, views=1
    )
    return counted.exact / 3


def rates() -> dict[str, float]:
    """FLOPs a second of a large float32 product, and bytes a second of one pass over a large array: best of three."""
    square, long = jnp.ones((MATMUL_WIDTH,) * 2), jnp.ones(2**26)
    product, total = jax.jit(jnp.matmul), jax.jit(jnp.sum)
    seconds = [
        min(timed(call)[1]["seconds"] for _ in range(4))
        for call in (lambda: product(square, square), lambda: total(long))
    ]
    return {
        "matmul_flops_per_second": 2 * MATMUL_WIDTH**3 / seconds[0],
        "bytes_per_second": long.nbytes / seconds[1],
    }


def against_torch(torch_python: str, rounds: int, sizes: dict[str, Architecture]) -> list[dict]:
    """LLaDA's loop, ours and PyTorch's in turns, for 1 and 4 rows. Exits where their tokens differ."""
    rows = []
    for name, architecture in sizes.items():
        model, params = network(architecture, SHARPNESS)
        prompts = np.random.default_rng(0).integers(architecture.vocab_size, size=(4, GIVEN), dtype=np.int32)
        with tempfile.TemporaryDirectory() as temporary:
            process = start_torch(torch_python, pathlib.Path(temporary), architecture, params, prompts)
        sampler = Confidence(temperature=0, block_size=BLOCK)
        for batch in (1, 4):
            ours = partial(sample, jax.random.key(0), model, params, prompts[:batch], sampler, LENGTH)
            _, trace = jax.block_until_ready(ours())
            turns = []
            for _ in range(rounds):
                turn = {
                    "float32": ask(process, f"decode {batch} float32"),
                    "float64": ask(process, f"decode {batch} float64"),
                }
                (tokens, _), turn["ours"] = timed(ours)
                turn |= {"matmul": timed_matmul(), "torch_matmul": ask(process, "matmul")}
                same = {
                    precision: turn[precision].pop("tokens") == tokens.tolist() for precision in ("float32", "float64")
                }
                turn["torch_matmul"].pop("tokens")
                if not all(same.values()):
                    raise SystemExit(f"{name}, {batch} rows: the tokens differ, so this is not the same work: {same}")
                turns.append(turn)
            rows.append(compared(name, architecture, batch, turns, np.asarray(trace.evaluations), tokens))
            print(f"{name}, {batch} rows: {rows[-1]['torch_over_ours']}", flush=True)
        process.stdin.close()
        process.wait()
    return rows


def compared(name, architecture, batch, turns, evaluations, tokens) -> dict:
    def middle(label, clock="seconds"):
        return median(turn[label][clock] for turn in turns)

    def ratio(label, clock="seconds"):
        return median(turn[label][clock] / turn["ours"][clock] for turn in turns)

    drawn, work = LENGTH - GIVEN, batch * flops(architecture, LENGTH, LENGTH, BLOCK)
    theirs = batch * flops(architecture, LENGTH, LENGTH, LENGTH)
    rate = 2 * MATMUL_WIDTH**3 / middle("matmul")
    return {
        "size": name,
        "rows": batch,
        "ours_seconds": middle("ours"),
        "torch_seconds": {precision: middle(precision) for precision in ("float32", "float64")},
        "torch_over_ours": {precision: ratio(precision) for precision in ("float32", "float64")},
        "torch_over_ours_cpu": {precision: ratio(precision, "cpu_seconds") for precision in ("float32", "float64")},
        "milliseconds_per_evaluation": 1e3 * middle("ours") / drawn,
        "gflops_per_evaluation": work / 1e9,
        "torch_gflops_per_evaluation": theirs / 1e9,
        "floor_seconds": drawn * work / rate,
        "torch_matmul_over_ours": middle("torch_matmul") / middle("matmul"),
        "evaluations_beyond": int((evaluations - drawn).max()),
        "different_tokens": len(np.unique(np.asarray(tokens)[:, GIVEN:])),
        "turns": turns,
    }


def timed_matmul() -> dict:
    square = jnp.ones((MATMUL_WIDTH, MATMUL_WIDTH))
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(square[:8, :8], square[:8, :8]))
    return timed(lambda: product(square, square))[1]


def start_torch(python: str, folder: pathlib.Path, architecture: Architecture, params, prompts) -> subprocess.Popen:
    a = architecture
    shape = Case(a.layers, a.width, a.heads, a.mlp_width, a.vocab_size, LENGTH, 1)
    (folder / "case.json").write_text(json.dumps({"model": shape._asdict(), "block_size": BLOCK}))
    leaves = jax.tree.leaves_with_path(params)
    np.savez(folder / "weights.npz", **{"/".join(key.key for key in path): leaf for path, leaf in leaves})
    np.save(folder / "prompts.npy", prompts)
    process = subprocess.Popen(
        [python, str(HERE / "torch_decoding.py"), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(HERE.parent)},
    )
    read(process)
    return process


def ask(process: subprocess.Popen, question: str) -> dict:
    print(question, file=process.stdin, flush=True)
    answer = read(process)
    # its threads may still spin
    time.sleep(0.3)
    return answer


def read(process: subprocess.Popen):
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"torch_decoding.py ended with exit code {process.wait()}")
    return json.loads(line)
