#!/usr/bin/env bash
# flax 0.12.8, jax 0.10.2 (CPU).
# Behaviour: LayerNorm, GroupNorm and BatchNorm of flax.linen and flax.nnx compute the variance as the mean of squares
#   minus the square of the mean, by default. In float32 the two cancel where the mean is some thousand times the spread:
#   the output is off by a factor, in either direction. use_fast_variance=False gives the right output.
# Seen, for 0, 0.1, 0.2, 0.3 plus an offset (right: -1.3416 for the first): offset 100: -1.283; 1,000: -150.0;
#   3,000: -0.150; 10,000: -150.4. With use_fast_variance=False: -1.342, -1.342, -1.341, -1.345.
# Misled: everyone who loads weights that were trained with another library's layer norm, or normalises raw inputs such
#   as pixels, times or prices with a large mean.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q flax==0.12.8 jax==0.10.2 numpy==2.4.6
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx


def first(offset, **options):
    rows = jnp.array([[0.0, 0.1, 0.2, 0.3]]) + offset
    layer = nn.LayerNorm(**options)
    linen = layer.apply(layer.init(jax.random.key(0), rows), rows)
    return float(linen[0, 0]), float(nnx.LayerNorm(4, rngs=nnx.Rngs(0), **options)(rows)[0, 0])


for offset in (100.0, 1_000.0, 3_000.0, 10_000.0):
    fast, exact = first(offset), first(offset, use_fast_variance=False)
    print(f"{offset:,.0f}: {fast[0]:.3f} {fast[1]:.3f}, use_fast_variance=False: {exact[0]:.3f}")
    assert abs(exact[0] + 1.342) < 0.01
    assert offset < 1_000 or not 0.5 < fast[0] / exact[0] < 2, "changed"
PYTHON
