#!/usr/bin/env bash
# jax 0.10.2 (CPU), optax 0.2.8.
# Behaviour: jax.nn.softmax, log_softmax and logsumexp of float16 keep the sum of exponentials in float16, which ends at
#   65,504. Over a vocabulary of more than 65,519 equal logits the sum is infinite: every probability is 0.
# Seen, for 70,000 equal logits: the probabilities sum to 0, logsumexp is inf, the cross-entropy is inf (it is ln 70,000
#   = 11.156); for 60,000 they sum to 1.
# Misled: everyone who computes a loss or samples from float16 logits with a vocabulary of 100,000 or more tokens, most
#   of all at the start of training, when logits are nearly equal. bfloat16 has the range.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q jax==0.10.2 numpy==2.4.6 optax==0.2.8
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import jax
import jax.numpy as jnp
import optax


def found(size, dtype):
    logits = jnp.zeros(size, dtype)
    loss = optax.losses.softmax_cross_entropy_with_integer_labels(logits, jnp.array(0))
    total = jax.nn.softmax(logits).astype(jnp.float32).sum()
    return [round(float(value), 3) for value in (total, jax.nn.logsumexp(logits), loss)]


small, large, wide = found(60_000, jnp.float16), found(70_000, jnp.float16), found(70_000, jnp.bfloat16)
print(small, large, wide)
assert abs(small[0] - 1) < 0.01 and abs(wide[2] - 11.156) < 0.1
assert large == [0.0, float("inf"), float("inf")], "changed"
PYTHON
