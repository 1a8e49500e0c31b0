#!/usr/bin/env bash
# ml_dtypes 0.6.0 with numpy 2.4.6.
# Behaviour: numpy adds int8 arrays in int64. An array in int4 is added in int4, and so is its mean: both wrap.
# Seen: np.mean of [7, 7] in int4 is -1, and np.sum is -2; in int8 they are 7.0 and 14.
# Misled: everyone who looks at statistics of 4-bit weights or activations with numpy.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q ml_dtypes==0.6.0 numpy==2.4.6
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import ml_dtypes
import numpy as np

for dtype, mean, total in ((ml_dtypes.int4, -1, -2), (np.int8, 7, 14)):
    values = np.array([7, 7], dtype)
    print(f"{np.dtype(dtype).name}: mean {np.mean(values)}, sum {np.sum(values)} in {np.sum(values).dtype}")
    assert np.mean(values) == mean and np.sum(values) == total, "changed"
PYTHON
