#!/usr/bin/env bash
# jax 0.10.2 on a CPU.
# Behaviour: where the mask of jax.nn.dot_product_attention lets a query see no key, the result is the mean of all
#   values, so what was masked is read in equal parts. key_value_seq_lengths=0 does the same.
# Seen: values [0, 2, 4] and a mask without a True give 2; jax.nn.softmax with where= and the same mask gives 0.
# Misled: everyone with padded rows or with rows of packed documents, who expects 0 or NaN where nothing may be read.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q jax==0.10.2
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import jax
import jax.numpy as jnp

query = jnp.ones((1, 1, 1, 4))
key = jnp.ones((1, 3, 1, 4))
value = jnp.broadcast_to(jnp.array([0.0, 2.0, 4.0])[None, :, None, None], (1, 3, 1, 4))
masked = jax.nn.dot_product_attention(query, key, value, mask=jnp.zeros((1, 1, 1, 3), bool))
no_key = jax.nn.dot_product_attention(query, key, value, key_value_seq_lengths=jnp.array([0]))
weights = jax.nn.softmax(jnp.ones(3), where=jnp.zeros(3, bool))
print("no key allowed:", masked.ravel(), " no key at all:", no_key.ravel(), " softmax with where:", weights)
assert (masked == 2).all() and (no_key == 2).all() and (weights == 0).all(), "changed"
PYTHON
