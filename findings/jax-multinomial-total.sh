#!/usr/bin/env bash
# jax 0.10.2 (CPU) beside numpy 2.4.6.
# Behaviour: jax.random.multinomial counts in float32. Above 2^24 = 16,777,216 trials its counts, added exactly, need not
#   sum to the number of trials.
# Seen: 50,000,001 trials over 7 outcomes give counts whose exact sum is another number in most of 20 draws. numpy's
#   always sum to it.
# Misled: whoever splits a budget of tokens over data sources: some are lost or made up.
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

trials = 50_000_001
draw = jax.vmap(lambda key: jax.random.multinomial(key, float(trials), jnp.ones(7) / 7))
counts = np.asarray(draw(jax.random.split(jax.random.key(0), 20)))
totals = counts.astype(np.int64).sum(axis=1)
print(counts.dtype, "totals less trials:", totals - trials)
assert (totals != trials).mean() > 0.5, "changed"
assert (np.random.default_rng(0).multinomial(trials, np.ones(7) / 7, 20).sum(axis=1) == trials).all()
PYTHON
