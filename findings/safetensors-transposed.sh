#!/usr/bin/env bash
# safetensors 0.8.0 with numpy 2.4.6.
# Behaviour: safetensors.numpy.save_file writes the memory of a transposed array in its old order under the new shape.
#   No error and no warning: the file loads, its values are permuted. Version 0.7.0 wrote the array as it reads.
# Seen: [[0, 3], [1, 4], [2, 5]] comes back as [[0, 1], [2, 3], [4, 5]].
# Misled: everyone who exports Flax kernels, [in, out], to the [out, in] layout of PyTorch with `kernel.T`; square
#   kernels keep their shape, so that no later check of shapes notices either.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q safetensors==0.8.0 numpy==2.4.6
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import numpy as np
from safetensors.numpy import load_file, save_file

kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
save_file({"weight": kernel.T}, "exported.safetensors")
loaded = load_file("exported.safetensors")["weight"]
print("saved ", kernel.T.tolist())
print("loaded", loaded.tolist())
assert loaded.shape == kernel.T.shape
assert loaded.tolist() == [[0, 1], [2, 3], [4, 5]] != kernel.T.tolist(), "changed: the values are right now"
save_file({"weight": np.ascontiguousarray(kernel.T)}, "exported.safetensors")
assert load_file("exported.safetensors")["weight"].tolist() == kernel.T.tolist()
PYTHON
