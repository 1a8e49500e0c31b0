#!/usr/bin/env bash
# jax 0.10.2 (CPU), numpy 2.4.6.
# Behaviour: jnp.histogram returns counts as float32, one addition of 1 for each value, so no bin ever counts more than
#   16,777,216. np.histogram returns int64.
# Seen, for 17,777,216 zeros: jnp.histogram 16,777,216, np.histogram 17,777,216; jnp.bincount, whose counts are
#   integers, is right.
# Misled: everyone who draws a histogram of the weights or activations of a large network: the fullest bins are cut off
#   at the same height, and the counts no longer add up to the number of values.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q jax==0.10.2 numpy==2.4.6
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import jax.numpy as jnp
import numpy as np

count = 2**24 + 1_000_000
ours, _ = jnp.histogram(jnp.zeros(count), bins=2, range=(0, 1))
theirs, _ = np.histogram(np.zeros(count), bins=2, range=(0, 1))
whole = jnp.bincount(jnp.zeros(count, jnp.int32), length=1)
print(ours.dtype, int(ours[0]), theirs.dtype, int(theirs[0]), int(whole[0]))
assert theirs[0] == whole[0] == count
assert ours.dtype == jnp.float32 and ours[0] == 2**24, "changed"
PYTHON
