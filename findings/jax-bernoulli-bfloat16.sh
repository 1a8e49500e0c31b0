#!/usr/bin/env bash
# jax 0.10.2 (CPU).
# Behaviour: jax.random.bernoulli compares with uniform numbers of the dtype of p. In bfloat16 these are multiples of
#   1/128, so that every probability is rounded up to such a multiple.
# Seen, in 1,000,000 draws: p = 0.001 happens with frequency 0.0077, p = 0.0001 too, and p = 0.999 always.
# Misled: masked language models and dropout at small rates where the noise schedule or the rate is computed in
#   bfloat16: a mask rate of 0.001 masks almost eight times too often. With a float32 p all is right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q jax==0.10.2 numpy==2.4.6
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import jax
import jax.numpy as jnp

key = jax.random.key(0)


def frequency(p, dtype):
    return float(jax.random.bernoulli(key, jnp.asarray(p, dtype), (1_000_000,)).mean(dtype=jnp.float32))


for p in (0.0001, 0.001, 0.999):
    print(f"p = {p}: bfloat16 {frequency(p, jnp.bfloat16):.5f}, float32 {frequency(p, jnp.float32):.5f}")
assert 0.007 < frequency(0.001, jnp.bfloat16) < 0.0085, "changed"
assert 0.007 < frequency(0.0001, jnp.bfloat16) < 0.0085, "changed"
assert frequency(0.999, jnp.bfloat16) == 1, "changed"
assert abs(frequency(0.001, jnp.float32) - 0.001) < 2e-4
PYTHON
