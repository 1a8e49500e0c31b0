"""Memory of loading a folder of LLaDA-8B's shape onto 8 devices, each of which holds an eighth of the weights.

The files are sparse: their headers are true, and their tensors are holes that read as zeros. The devices are eight
parts of one CPU, so this process holds all shares: what it holds beyond them is the cost of loading.

python benchmarks/streaming.py [LAYERS]
"""

import json
import math
import os
import pathlib
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
DEVICES, FILES = 8, 4
CONFIG = {
    "model_type": "llada",
    "vocab_size": 126464,
    "embedding_size": 126464,
    "d_model": 4096,
    "n_heads": 32,
    "n_layers": 32,
    "mlp_hidden_size": 12288,
    "max_sequence_length": 4096,
    "rope_theta": 5e5,
    "weight_tying": False,
}


def write_sparse(folder: pathlib.Path, config: dict) -> int:
    """Writes the folder in bfloat16 and gives the bytes of its tensors."""
    from mdlm_jax.weights.llada import llada
    from mdlm_jax.weights.settings import Settings

    some = {str(number): None for number in range(config["n_layers"])}  # as many as the layers that it may have
    slots = llada(Settings(config, folder), some).slots
    (folder / "config.json").write_text(json.dumps(config))
    where, total = {}, 0
    for number in range(FILES):
        name, header, end = f"model-{number + 1:05d}-of-{FILES:05d}.safetensors", {}, 0
        for slot in slots[number * len(slots) // FILES : (number + 1) * len(slots) // FILES]:
            size = 2 * math.prod(slot.shape)
            header[slot.name] = {"dtype": "BF16", "shape": slot.shape, "data_offsets": [end, end + size]}
            where[slot.name], end = name, end + size
        text = json.dumps(header).encode()
        with open(folder / name, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + end)
        total += end
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return total


def main(layers: int) -> None:
    os.environ |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}"}
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import Mesh
    from weights import memory

    from mdlm_jax.models.layout import AXES
    from mdlm_jax.weights.load import load_weights

    mesh = Mesh(np.array(jax.devices()).reshape(1, DEVICES, 1, 1), AXES)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        stored = write_sparse(folder, CONFIG | {"n_layers": layers})
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
        before, start = memory("VmRSS"), time.perf_counter()
        params = jax.block_until_ready(load_weights(folder, dtype=jnp.bfloat16, mesh=mesh).params)
        seconds, peak = time.perf_counter() - start, memory("VmHWM") - before
    shards = [shard for leaf in jax.tree.leaves(params) for shard in leaf.addressable_shards]
    held = [sum(shard.data.nbytes for shard in shards if shard.device == device) / 1e6 for device in jax.devices()]
    found = {
        "layers": layers,
        "stored_megabytes": stored / 1e6,
        "largest_share_megabytes": max(held),
        "all_shares_megabytes": sum(held),
        "peak_megabytes": peak,
        "beyond_the_shares_in_shares": (peak - sum(held)) / max(held),
        "seconds": seconds,
    }
    (ROOT / "benchmarks" / "results" / "streaming.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else CONFIG["n_layers"])
