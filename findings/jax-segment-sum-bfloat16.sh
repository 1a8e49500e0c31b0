#!/usr/bin/env bash
# jax 0.10.2 (CPU).
# Behaviour: jnp.sum of bfloat16 accumulates in float32, but jax.ops.segment_sum, .at[].add and jnp.bincount with
#   weights accumulate in bfloat16: a count of ones stops at 256.
# Seen, for 1,000 ones: jnp.sum 1000, segment_sum 256, .at[0].add 256, bincount 256.
# Misled: everyone who counts tokens of an expert, a document or a bucket of noise levels under bfloat16 compute.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q jax==0.10.2 numpy==2.4.6
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import jax
import jax.numpy as jnp

ones, segment = jnp.ones(1000, jnp.bfloat16), jnp.zeros(1000, int)
found = {
    "sum": ones.sum(),
    "segment_sum": jax.ops.segment_sum(ones, segment, 1)[0],
    "at add": jnp.zeros(1, jnp.bfloat16).at[segment].add(1)[0],
    "bincount": jnp.bincount(segment, weights=ones, length=1)[0],
}
print({name: float(value) for name, value in found.items()})
assert float(found.pop("sum")) == 1000
assert all(float(value) == 256 for value in found.values()), "changed"
PYTHON
