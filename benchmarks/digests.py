"""Time of a checkpoint's digests beside saving and restoring it.

python benchmarks/digests.py
"""

import json
import pathlib
import platform
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from mdlm_jax.files import write_whole  # noqa: E402
from mdlm_jax.runs import checkpoint, seal  # noqa: E402
from mdlm_jax.training.sharding import shapes  # noqa: E402
from mdlm_jax.training.step import State  # noqa: E402

MEGABYTES, ARRAYS, TURNS = 128, 16, 3
KINDS = ("seconds", "cpu_seconds")


def timed(work, *arguments) -> tuple[float, float]:
    """(wall seconds, CPU seconds)."""
    wall, cpu = time.perf_counter(), time.process_time()
    work(*arguments)
    return time.perf_counter() - wall, time.process_time() - cpu


def turn(parent: pathlib.Path, number: int) -> dict[str, tuple[float, float]]:
    keys = jax.random.split(jax.random.key(number), ARRAYS)
    size = MEGABYTES * 2**20 // 4 // ARRAYS
    params = {f"array_{index}": jax.random.normal(key, (size // 1024, 1024)) for index, key in enumerate(keys)}
    state = jax.block_until_ready(State(jnp.int32(1), params, (), (), (), jnp.zeros(2, jnp.uint32)))
    with checkpoint.open_checkpoints(parent / str(number)) as checkpoints:

        def save():
            checkpoint.save(checkpoints, 1, state)
            checkpoints.wait_until_finished()

        saved, folder = timed(save), parent / str(number) / "1"
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        return {
            "save, its digests included": saved,
            "digests alone": timed(seal.seal, folder),
            "check": timed(seal.damage, folder),
            "restore": timed(checkpoint.restore, checkpoints, 1, shapes(state, device)),
        }


def main() -> None:
    with tempfile.TemporaryDirectory() as parent:
        turns = [turn(pathlib.Path(parent), number) for number in range(TURNS)]
    medians = {
        name: {kind: round(statistics.median(one[name][at] for one in turns), 3) for at, kind in enumerate(KINDS)}
        for name in turns[0]
    }
    found = {"command": "python benchmarks/digests.py", "python": platform.python_version(), "jax": jax.__version__}
    found |= {"megabytes": MEGABYTES, "arrays": ARRAYS, "turns": turns, "medians": medians}
    write_whole(ROOT / "benchmarks" / "results" / "digests.json", json.dumps(found, indent=1) + "\n")
    print(json.dumps(medians, indent=1))


if __name__ == "__main__":
    main()
