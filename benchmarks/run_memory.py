"""Peak memory and CPU time of a whole run of 1.3M parameters under three settings of glibc's malloc, in turns.

    python benchmarks/run_memory.py [ROUNDS]

shipped: as the command sets it up; kept: no freed memory is returned, in small pages; default: glibc's own choices.
Compiled programs come from a cache that a run before the first round fills, except in the row `cold`. Writes
results/run_memory.json.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from statistics import median

from mdlm_jax import malloc
from mdlm_jax.files import write_whole

RESULTS = pathlib.Path(__file__).resolve().parent / "results"
CONFIG = {
    "model.size": "1.3M",
    "data.sequence_length": 256,
    "train.batch_size": 8,
    "eval.sequences": 64,
    "eval.draws": 4,
    "steps": 40,
    "budget": 0.0,
}
TRAIN = """
import json, resource, sys
setting, objective, folder, keys = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
from mdlm_jax import malloc
if setting == "kept":
    malloc._kernel = lambda: "never"
if setting == "default":
    malloc.set_up_malloc = malloc.return_freed_memory = lambda: None
from mdlm_jax.cli.devices import prepare_devices
prepare_devices()
import mdlm_jax as mj
config = mj.load_config("quickstart")
config.update_from_flattened_dict(keys | {"objective.name": objective})
mj.train(config, folder)
used = resource.getrusage(resource.RUSAGE_SELF)
print("\\n" + json.dumps({"megabytes": used.ru_maxrss / 1024, "cpu_seconds": used.ru_utime + used.ru_stime}))
"""


def measure(setting: str, objective: str, cache: str) -> dict[str, float]:
    tunables = {malloc.TUNABLES: malloc.TUNABLE} if setting in ("shipped", "cold") else {}
    environment = {name: value for name, value in os.environ.items() if name not in (malloc.TUNABLES, "LD_PRELOAD")}
    with tempfile.TemporaryDirectory() as folder:
        if setting == "cold":
            cache = folder + "/cache"
        done = subprocess.run(
            [sys.executable, "-c", TRAIN, setting, objective, folder + "/run", json.dumps(CONFIG)],
            env=environment | tunables | {"JAX_COMPILATION_CACHE_DIR": cache},
            check=True,
            capture_output=True,
            text=True,
        )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    rounds, rows = int(sys.argv[1]) if len(sys.argv) > 1 else 3, []
    with tempfile.TemporaryDirectory() as cache:
        for objective in ("ar", "masked"):
            measure("shipped", objective, cache)
            found = {setting: [] for setting in ("shipped", "kept", "default", "cold")}
            for _ in range(rounds):
                for setting in found:
                    found[setting].append(measure(setting, objective, cache))
            for setting, runs in found.items():
                row = {name: median(run[name] for run in runs) for name in runs[0]}
                rows.append({"objective": objective, "malloc": setting} | row)
                print(rows[-1], flush=True)
    report = {"command": f"python benchmarks/run_memory.py {rounds}", "rounds": rounds, "config": CONFIG, "rows": rows}
    write_whole(RESULTS / "run_memory.json", json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
