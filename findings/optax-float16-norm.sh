#!/usr/bin/env bash
# optax 0.2.8 with jax 0.10.2.
# Behaviour: the global norm of float16 gradients is summed in float16, where squares above 65,504 are infinite.
#   clip_by_global_norm then divides by infinity: every update is 0, and nothing is NaN.
# Seen: ten gradients of 1,000 in float16 have the norm inf and are clipped to 0; in bfloat16 they are clipped to 0.316.
# Misled: everyone who trains in float16 with clipping: the network stops learning without an error.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q optax==0.2.8 jax==0.10.2
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import jax.numpy as jnp
import optax

clip = optax.clip_by_global_norm(1.0)
for dtype, expected in ((jnp.float16, 0.0), (jnp.bfloat16, 0.316)):
    gradients = jnp.full(10, 1000.0, dtype)
    clipped, _ = clip.update(gradients, clip.init(gradients))
    print(jnp.dtype(dtype).name, "norm", optax.global_norm(gradients), "clipped to", clipped[0])
    assert jnp.isfinite(clipped).all() and abs(float(clipped[0]) - expected) < 0.01, "changed"
assert jnp.isinf(optax.global_norm(jnp.full(10, 1000.0, jnp.float16)))
PYTHON
