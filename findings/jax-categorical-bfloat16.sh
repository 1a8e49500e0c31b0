#!/usr/bin/env bash
# jax 0.10.2 (CPU).
# Behaviour: jax.random.categorical draws its Gumbel noise in the dtype of the logits. In bfloat16 that noise lies
#   between about -4.5 and 4.9, so that a token 10 nats or more below the likeliest is never drawn.
# Seen, in 20,000 draws over one likely token and 1,000 rare ones of 2e-5 each: no rare one (400 expected).
# Misled: everyone who samples from the bfloat16 logits of a language model: its tail is cut as by a hidden top-p.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q jax==0.10.2 numpy==2.4.6
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import jax
import jax.numpy as jnp

rare, count = 2e-5, 1000
logits = jnp.log(jnp.array([1 - count * rare] + count * [rare]))


def share_of_rare(dtype):
    drawn = jax.random.categorical(jax.random.key(0), logits.astype(dtype), shape=(20_000,))
    return float((drawn > 0).mean(dtype=jnp.float32))


noise = jax.random.gumbel(jax.random.key(1), (1_000_000,), jnp.bfloat16)
print("bfloat16 Gumbel noise of a million draws: from", noise.min(), "to", noise.max())
print(f"rare tokens: bfloat16 {share_of_rare(jnp.bfloat16):.4f}, float32 {share_of_rare(jnp.float32):.4f}, expected 0.0200")
assert share_of_rare(jnp.bfloat16) == 0, "changed: rare tokens are drawn"
assert abs(share_of_rare(jnp.float32) - count * rare) < 4e-3
PYTHON
