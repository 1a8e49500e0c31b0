#!/usr/bin/env bash
# jax 0.10.2 (CPU).
# Behaviour: x ** 0.0 is 1 for every x, but its gradient at x = 0 is NaN; that of x ** 0 is 0. An exponent that is an
#   array gives NaN as well.
# Seen: the gradients at 0 of x ** 0.0, jnp.power(x, array 0.0), jnp.float_power(x, 0.0) are NaN, that of x ** 0 is 0.
# Misled: everyone with an exponent from a config or a grid, such as a weight t ** p or a focal loss (1 - p) ** gamma:
#   the value 0, which means no weighting, turns all gradients into NaN where the base reaches 0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q jax==0.10.2 numpy==2.4.6
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import math

import jax
import jax.numpy as jnp

powers = {
    "x ** 0.0": lambda x: x**0.0,
    "array": lambda x: jnp.power(x, jnp.float32(0.0)),
    "float_power": lambda x: jnp.float_power(x, 0.0),
    "x ** 0": lambda x: x**0,
}
found = {name: (float(power(jnp.float32(0.0))), float(jax.grad(power)(0.0))) for name, power in powers.items()}
print(found)
assert all(value == 1 for value, _ in found.values())
assert found.pop("x ** 0")[1] == 0
assert all(math.isnan(gradient) for _, gradient in found.values()), "changed"
PYTHON
