#!/usr/bin/env bash
# orbax-checkpoint 0.12.8 with jax 0.10.2.
# Behaviour: StandardCheckpointer.restore casts what it reads to the dtype of the target without a word, also where
#   numbers do not fit: fractions are cut off and integers wrap.
# Seen: 0.5 and 1.7 restored as int32 are 0 and 1; -1 and 300 as uint8 are 255 and 44; a counter of 3,000,000,000 saved
#   in int64 is -1,294,967,296 where the target is a jax.ShapeDtypeStruct of int64 and 64 bits are off.
# Misled: whoever counts tokens in int64 and restores with an abstract tree of the state, or changes the type of a leaf.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q orbax-checkpoint==0.12.8 jax==0.10.2
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
cases = (
    (jnp.array([0.5, 1.7]), jnp.int32, [0, 1]),
    (jnp.array([-1, 300]), jnp.uint8, [255, 44]),
    (np.array([3_000_000_000]), np.int64, [-1_294_967_296]),
)
for saved, dtype, expected in cases:
    path = pathlib.Path(tempfile.mkdtemp()) / "checkpoint"
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, {"leaf": saved})
        checkpointer.wait_until_finished()
        target = {"leaf": jax.ShapeDtypeStruct(saved.shape, dtype, sharding=device)}
        restored = checkpointer.restore(path, target)["leaf"]
    print(saved, "restored as", np.dtype(dtype).name, ":", restored)
    assert restored.tolist() == expected, "changed"
PYTHON
