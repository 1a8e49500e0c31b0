#!/usr/bin/env bash
# jax 0.10.2 (CPU), numpy 2.4.6.
# Behaviour: jnp.median of float16 adds the value below the middle and the one above it before it halves the sum, also
#   where both are the same value. A median above 32,752 is therefore infinite; jnp.mean of the same values is right.
# Seen, for three values of 60,000: jnp.median inf, jnp.quantile(.., 0.5) 60000, jnp.mean 60000, np.median 60000.
# Misled: everyone who takes medians of losses, norms or scales in float16.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q jax==0.10.2 numpy==2.4.6
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import jax.numpy as jnp
import numpy as np

values = np.full(3, 60_000, np.float16)
found = {
    "jnp.median": jnp.median(jnp.array(values)),
    "jnp.mean": jnp.mean(jnp.array(values)),
    "np.median": np.median(values),
    "jnp.quantile": jnp.quantile(jnp.array(values), 0.5),
}
found = {name: float(value) for name, value in found.items()}
print(found)
assert found["jnp.median"] == float("inf"), "changed"
assert found["jnp.mean"] == found["np.median"] == found["jnp.quantile"] == 60_000
PYTHON
