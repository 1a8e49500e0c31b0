#!/usr/bin/env bash
# orbax-checkpoint 0.12.8 with jax 0.10.2.
# Behaviour: StandardCheckpointer names the array of {"a": {"b": x}} "a.b" on disk, as it does that of {"a.b": y}. A
#   tree with both is saved and restored without an error; one array is gone, the other is restored in both places.
# Seen: {"block.1": ones, "block": {"1": zeros}} comes back with the same values in both
#   places: sometimes ones, sometimes zeros.
# Misled: everyone who keeps weights under dotted names of PyTorch state dicts beside nested ones, such as imported
#   layers beside a new head.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q orbax-checkpoint==0.12.8 jax==0.10.2 numpy==2.4.6
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import logging
import pathlib

import jax.numpy as jnp
import orbax.checkpoint as ocp

logging.disable(logging.CRITICAL)
tree = {"block.1": jnp.ones(3), "block": {"1": jnp.zeros(3)}}
path = pathlib.Path.cwd() / "checkpoint"
with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(path, tree)
    checkpointer.wait_until_finished()
    restored = checkpointer.restore(path)
print("saved   ", {"block.1": tree["block.1"].tolist(), "block": tree["block"]["1"].tolist()})
print("restored", {"block.1": restored["block.1"].tolist(), "block": restored["block"]["1"].tolist()})
assert restored["block.1"].tolist() == restored["block"]["1"].tolist(), "changed: both arrays are kept"
PYTHON
