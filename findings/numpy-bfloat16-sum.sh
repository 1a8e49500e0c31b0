#!/usr/bin/env bash
# ml_dtypes 0.6.0 with numpy 2.4.6.
# Behaviour: numpy adds up an array of bfloat16 one by one in bfloat16. The sum of ones stops at 256, since 256 + 1
#   rounds to 256; mean, std and cumsum follow. numpy adds float16 pairwise in float32, and jax adds bfloat16 in float32.
# Seen: np.ones(1000, bfloat16).mean() is 0.2559, the float16 one is 1.0.
# Misled: everyone who looks at the mean or the norm of bfloat16 weights or gradients brought to the host.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q ml_dtypes==0.6.0 numpy==2.4.6
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import ml_dtypes
import numpy as np

ones = np.ones(1000, ml_dtypes.bfloat16)
print("sum", ones.sum(), "mean", ones.mean(), "cumsum ends at", ones.cumsum()[-1], "float16 mean", ones.astype(np.float16).mean())
assert float(ones.sum()) == 256 and float(ones.cumsum()[-1]) == 256, "changed"
assert abs(float(ones.mean()) - 0.256) < 1e-3, "changed"
assert ones.astype(np.float16).mean() == 1 and ones.mean(dtype=np.float32) == 1
PYTHON
