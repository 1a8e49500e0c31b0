#!/usr/bin/env bash
# ml_dtypes 0.6.0 with numpy 2.4.6.
# Behaviour: np.sort puts NaN last in every floating type of numpy's own. In bfloat16 and float8 a NaN stays where it
#   is, and the numbers before it are not sorted with those after it. np.median and np.partition inherit that.
# Seen: np.sort of [3, nan, 1, 2, 0] is [3, nan, 0, 1, 2] in bfloat16, [0, 1, 2, 3, nan] in float32; np.median is 0 in
#   bfloat16, nan in float32.
# Misled: everyone who ranks losses or takes quantiles of a bfloat16 array in which one value is NaN.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q ml_dtypes==0.6.0 numpy==2.4.6
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import ml_dtypes
import numpy as np

values = [3, np.nan, 1, 2, 0]
for dtype in (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, np.float32):
    found = np.sort(np.array(values, dtype)).astype(np.float32)
    print(f"sort in {np.dtype(dtype).name}:", found, " median:", np.median(np.array(values, dtype)))
    expected = [0, 1, 2, 3, np.nan] if dtype is np.float32 else [3, np.nan, 0, 1, 2]
    assert np.array_equal(found, expected, equal_nan=True), "changed"
assert np.median(np.array(values, ml_dtypes.bfloat16)) == 0 and np.isnan(np.median(np.array(values, np.float32)))
PYTHON
