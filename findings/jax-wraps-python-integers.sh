#!/usr/bin/env bash
# jax 0.10.2, numpy 2.3.5.
# Behaviour: a Python integer beside a small integer array is reduced modulo 2^bits to the array's type before the
#   operation, with no error or warning: comparisons, clip and where then use another number. NumPy compares and clips
#   exactly.
# Seen: for uint8 [5, 200], `x < 300` is [True, False], clip(x, 0, 300) is [5, 44] and where(False, x, 300) is [44, 44];
#   for int8 [5, -100], clip(x, -200, 100) is [56, 56]. NumPy: [True, True], [5, 200] and [5, -100].
# Misled: whoever keeps tokens or pixels in 8 or 16 bits and checks them against a vocabulary size or a limit that is one
#   past the type's range: `tokens < 256` is all False, and valid tokens are dropped.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q jax==0.10.2 jaxlib==0.10.2 numpy==2.3.5
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import jax.numpy as jnp
import numpy as np

pixels, offsets = np.array([5, 200], np.uint8), np.array([5, -100], np.int8)
x, y = jnp.asarray(pixels), jnp.asarray(offsets)
seen = [
    (x < 300).tolist(),
    (x < 256).tolist(),
    jnp.clip(x, 0, 300).tolist(),
    jnp.where(False, x, 300).tolist(),
    jnp.clip(y, -200, 100).tolist(),
]
exact = [(pixels < 300).tolist(), (pixels < 256).tolist(), np.clip(pixels, 0, 300).tolist()]
exact += [np.clip(offsets, -200, 100).tolist()]
print("jax:", seen)
print("numpy:", exact)
assert seen == [[True, False], [False, False], [5, 44], [44, 44], [56, 56]], "changed"
assert exact == [[True, True], [True, True], [5, 200], [5, -100]]
PYTHON
