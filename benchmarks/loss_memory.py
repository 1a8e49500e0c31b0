"""Temporary memory of the loss and its gradient at V = 32,000, by chunk: the compiler's reservation. Nothing is run.

python benchmarks/loss_memory.py
"""

import json
import pathlib

import jax
import jax.numpy as jnp

from mdlm_jax.files import write_whole
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, Model, transformer
from mdlm_jax.objectives import OBJECTIVES
from mdlm_jax.objectives.base import View
from mdlm_jax.training.loss import nats

V, LENGTH, BATCH, WIDTH = 32000, 2048, 2, 256
CHUNKS = (2048, 512, 256, 128, 64)


def temporary_bytes(chunk: int) -> int:
    """Temporary bytes of: hidden states [B, L, d] -> nats and their gradient by the head and the hidden states."""
    whole = transformer(Architecture(V, 1, WIDTH, 4, 4, 4 * WIDTH), Execution())
    params = jax.eval_shape(whole.init, jax.random.key(0))
    hidden = jax.ShapeDtypeStruct((BATCH, LENGTH, WIDTH), jnp.float32)
    ids, reals = jnp.zeros((BATCH, LENGTH), jnp.int32), jnp.ones((BATCH, LENGTH))
    view = View(ids, ids, reals, reals, ids[..., None], ids[..., None], ids, jnp.zeros(BATCH))

    def total(params, hidden):
        model: Model = whole._replace(hidden=lambda *_, **__: (hidden, None))
        return nats(model, OBJECTIVES["ar"](V), params, (), view, chunk)[0]

    compiled = jax.jit(jax.grad(total, argnums=(0, 1))).lower(params, hidden).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def main() -> None:
    found = {chunk: temporary_bytes(chunk) for chunk in CHUNKS}
    lines = ["| positions at once | temporary memory, MB | unchunked / this |", "|---|---|---|"]
    lines += [f"| {chunk} | {size / 1e6:,.0f} | {found[LENGTH] / size:.1f} |" for chunk, size in found.items()]
    folder = pathlib.Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    setting = {"V": V, "L": LENGTH, "B": BATCH, "width": WIDTH, "jax": jax.__version__}
    text = json.dumps({**setting, "temporary_bytes": found}, indent=1)
    write_whole(folder / "loss_memory.json", text + "\n")
    write_whole(folder / "loss_memory.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
