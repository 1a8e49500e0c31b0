"""Seconds and memory of loading a public model, beside the floor: reading its bytes once into memory.

mdlm-jax convert SmolLM2-135M-Instruct.Q4_1.gguf --out FOLDER; JAX_PLATFORMS=cpu python benchmarks/weights.py FOLDER
"""

import json
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
TURNS = 5


def memory(name: str) -> float:
    """Megabytes of this process: VmRSS now, and VmHWM, the maximum since the last reset."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024 / 1e6


def one_turn(folder: str) -> dict:
    """Loads the model once, in its own process."""
    import jax
    import numpy as np

    from mdlm_jax.weights.load import load_weights

    jax.devices()
    file = pathlib.Path(folder) / "model.safetensors"
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
    before, wall, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
    weights = load_weights(folder)
    jax.block_until_ready(weights.params)
    found = {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_megabytes": memory("VmHWM") - before,
        "file_megabytes": file.stat().st_size / 1e6,
    }
    del weights
    wall, cpu = time.perf_counter(), time.process_time()
    np.fromfile(file, np.uint8)
    return found | {"floor_seconds": time.perf_counter() - wall, "floor_cpu_seconds": time.process_time() - cpu}


def main(folder: str) -> None:
    from mdlm_jax.bench.suite import machine

    turns = []
    for _ in range(TURNS):
        done = subprocess.run([sys.executable, __file__, folder, "once"], capture_output=True, text=True, check=True)
        turns.append(json.loads(done.stdout.splitlines()[-1]))
    median = {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
    median["memory_share"] = median["peak_megabytes"] / median["file_megabytes"]
    out = ROOT / "benchmarks" / "results" / "weights.json"
    out.write_text(json.dumps({"machine": machine(), "median": median, "turns": turns}, indent=1) + "\n")
    print(json.dumps(median, indent=1))


if __name__ == "__main__":
    if sys.argv[2:] == ["once"]:
        print(json.dumps(one_turn(sys.argv[1])))
    else:
        main(sys.argv[1])
