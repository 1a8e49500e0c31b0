#!/usr/bin/env bash
# jax 0.10.2 (CPU) beside numpy 2.4.6.
# Behaviour: jax.random.choice without replacement draws elements of probability 0 once all others are drawn.
#   numpy.random.Generator.choice refuses such a draw.
# Seen: four of five elements with p = [0.5, 0.5, 0, 0, 0]: jax returns two elements of probability 0, numpy raises
#   "Fewer non-zero entries in p than size".
# Misled: whoever draws k positions among those that a mask allows: rows with fewer than k give positions that it forbids.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q jax==0.10.2 numpy==2.4.6
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np

p = [0.5, 0.5, 0.0, 0.0, 0.0]
drawn = jax.random.choice(jax.random.key(0), 5, (4,), replace=False, p=jnp.array(p))
print("jax draws", drawn)
assert len(set(drawn.tolist())) == 4 and sum(p[index] == 0 for index in drawn.tolist()) == 2, "changed"
try:
    np.random.default_rng(0).choice(5, 4, replace=False, p=p)
except ValueError as error:
    print("numpy:", error)
else:
    raise AssertionError("changed")
PYTHON
