"""Decoding on a GPU: what each cache of `confidence` saves, and the shape of SmolLM2-135M beside its floor.

    python benchmarks/gpu_decoding.py [--dry] [--out FOLDER]

Weights are random, because seconds do not depend on their values. In bfloat16 with float32 weights; `--dry` has tiny
sizes, for a CPU. The floor of a drawn token is one read of all weights but the embedding's at the rate of a large sum.
Writes decoding.json and decoding.md.
"""

import argparse
import json
import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from decoding_speed import rates, timed

from mdlm_jax.bench.suite import machine
from mdlm_jax.costs.flops import num_parameters
from mdlm_jax.files import write_whole
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.sampling import Autoregressive, Confidence, Sampler, sample

SMDM = Architecture(32000, 18, 768, 12, 12, 3072)  # 170M
SMOLLM2 = Architecture(49152, 30, 576, 9, 3, 1536, rope_base=1e5, tied_head=True)
TINY = Architecture(64, 2, 16, 2, 1, 32, tied_head=True)
CACHES = {
    "none": Confidence(temperature=0, block_size=32),
    "prefix": Confidence(temperature=0, block_size=32, cache="prefix"),
    "dual": Confidence(temperature=0, block_size=32, cache="dual"),
    "features": Confidence(temperature=0, block_size=32, cache="features"),
}
ROWS, ROUNDS = 8, 3


def seconds(model, params, batch: int, prompt: int, length: int, sampler: Sampler) -> dict:
    """The first call, which compiles, and the best of some others."""
    rows = np.random.default_rng(0).integers(model.architecture.vocab_size, size=(batch, prompt), dtype=np.int32)
    call = partial(sample, jax.random.key(0), model, params, rows, sampler, length)
    first = timed(call)[1]["seconds"]
    return {"first_seconds": first, "seconds": min(timed(call)[1]["seconds"] for _ in range(ROUNDS))}


def network(architecture: Architecture):
    model = transformer(architecture, Execution(compute_dtype=jnp.dtype(jnp.bfloat16), use_segments=False))
    return model, jax.jit(model.init)(jax.random.key(0))


def caches(dry: bool) -> list[dict]:
    """Eight rows of 1,024 tokens of which the last 256 are drawn, one token an evaluation."""
    model, params = network(TINY if dry else SMDM)
    prompt, length = (32, 96) if dry else (768, 1024)
    rows = []
    for name, sampler in CACHES.items():
        row = {"cache": name} | seconds(model, params, ROWS, prompt, length, sampler)
        row["times_none"] = (rows or [row])[0]["seconds"] / row["seconds"]
        row["tokens_per_second"] = ROWS * (length - prompt) / row["seconds"]
        rows.append(row)
    return rows


def smollm2(dry: bool) -> list[dict]:
    """A prompt of 1,024 tokens and one token, then 128 greedy tokens, for 1 and 8 rows."""
    architecture = TINY if dry else SMOLLM2
    model, params = network(architecture)
    prompt, drawn = (16, 8) if dry else (1024, 128)
    counted = num_parameters(architecture)
    weights = counted.non_embedding + architecture.vocab_size * architecture.width
    floor = 4 * weights / rates()["bytes_per_second"]
    rows, greedy = [], Autoregressive(temperature=0)
    for batch in (1, ROWS):
        prefill = seconds(model, params, batch, prompt, prompt + 1, greedy)["seconds"]
        whole = seconds(model, params, batch, prompt, prompt + 1 + drawn, greedy)["seconds"]
        each = (whole - prefill) / drawn
        rows.append({"rows": batch, "prefill_seconds": prefill, "token_seconds": each, "token_floor_seconds": floor})
    return rows


def table(found: dict) -> str:
    lines = ["| cache | seconds | tokens/s | times none | first call, s |", "|---|---|---|---|---|"]
    for row in found["caches"]:
        lines.append(
            f"| {row['cache']} | {row['seconds']:.3f} | {row['tokens_per_second']:,.0f} "
            f"| {row['times_none']:.2f} | {row['first_seconds']:.1f} |"
        )
    lines += ["", "| SmolLM2's shape, rows | prompt, ms | token, ms | floor of a token, ms |", "|---|---|---|---|"]
    for row in found["smollm2"]:
        times = (row["prefill_seconds"], row["token_seconds"], row["token_floor_seconds"])
        lines.append(f"| {row['rows']} | " + " | ".join(f"{1e3 * time:.2f}" for time in times) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="tiny sizes, for a CPU")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("benchmarks/results/gpu"))
    options = parser.parse_args()
    found = {"machine": machine(), "caches": caches(options.dry), "smollm2": smollm2(options.dry)}
    options.out.mkdir(parents=True, exist_ok=True)
    write_whole(options.out / "decoding.json", json.dumps(found, indent=1) + "\n")
    write_whole(options.out / "decoding.md", table(found) + "\n")
    print(table(found))


if __name__ == "__main__":
    main()
