"""A command that stands in for `mdlm-jax train --run FOLDER`: writes the result of the config in FOLDER at once.

The loss has its minimum over the learning rate at 0.02 x (N / 10,000)^-0.25, with a noise of the seed of 0.01.
"""

import sys

from mdlm_jax.config import LATER_KEYS
from mdlm_jax.costs.counters import COUNTERS
from mdlm_jax.runs.result import SCHEMA_VERSION, Result

PARAMETERS = {"4k": 4144, "12k": 12400, "33k": 32928}
CURVATURE = 0.2  # of the loss in ln lr
NOISE = 0.01

FIELDS = {
    **dict.fromkeys(Result._fields, 0) | Result._field_defaults,
    **dict.fromkeys(("size", "estimator", "device", "cause"), ""),
    **{"schema_version": SCHEMA_VERSION, "flops": dict.fromkeys(COUNTERS, 1e10), "budget_counter": "exact"},
    **{"bound": "upper", "bits_per_byte": 1.0, "loss_standard_error": 0.1, "versions": {}, "status": "done"},
    **{"tokens": 1000, "tokens_per_step": 10, "steps": 100, "unique_tokens": 1000, "parameters_total": 9000},
}

CHILD = f"""
import functools, hashlib, json, math, pathlib, sys
folder = pathlib.Path(sys.argv[-1])
text = (folder / "config.json").read_text()
config, told = json.loads(text), json.loads(text)
for key, value in {LATER_KEYS!r}.items():  # the hash of a config, without its imports
    *parents, leaf = key.split(".")
    node = functools.reduce(dict.get, parents, told)
    if node[leaf] == value:
        del node[leaf]
text = json.dumps(told, indent=1, sort_keys=True) + "\\n"
with open(folder / "starts", "a") as starts:
    starts.write(folder.name + "\\n")
if (folder / "fails").exists():
    print("the last words"); sys.exit(3)
parameters, rate = {PARAMETERS}[config["model"]["size"]], config["optim"]["lr"]
best = 0.02 * (parameters / 1e4) ** -0.25
loss = 2 + {CURVATURE} / 2 * math.log(rate / best) ** 2 + {NOISE} * (-1) ** config["seed"]
fields = {FIELDS!r} | dict(
    run_id=folder.name, objective=config["objective"]["name"], size=config["model"]["size"], loss=loss,
    config_hash=hashlib.sha256(text.encode()).hexdigest()[:8], seed=config["seed"], budget=config["budget"],
    learning_rate=rate, parameters_non_embedding=parameters,
)
(folder / "result.json").write_text(json.dumps(fields))
"""
COMMAND = (sys.executable, "-S", "-c", CHILD)
