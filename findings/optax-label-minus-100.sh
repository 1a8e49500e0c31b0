#!/usr/bin/env bash
# optax 0.2.8 with jax 0.10.2.
# Behaviour: softmax_cross_entropy_with_integer_labels takes a label of -100 as the 100th token from the end and gives
#   its loss; with fewer than 100 classes it gives NaN. softmax_cross_entropy with one_hot(-100) gives 0.
# Seen: with 1,000 classes the loss of label -100 equals that of label 900.
# Misled: everyone who brings batches with the usual ignored label, -100 in PyTorch and in Hugging Face collators, to
#   optax: prompts and padding train the model towards one arbitrary token, without a sign of it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q optax==0.2.8 jax==0.10.2 numpy==2.4.6
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import jax
import jax.numpy as jnp
import optax

logits, ignored = jax.random.normal(jax.random.key(0), (1, 1000)), jnp.array([-100])
by_label = optax.losses.softmax_cross_entropy_with_integer_labels(logits, ignored)
by_one_hot = optax.losses.softmax_cross_entropy(logits, jax.nn.one_hot(ignored, 1000))
token_900 = optax.losses.softmax_cross_entropy_with_integer_labels(logits, jnp.array([900]))
small = optax.losses.softmax_cross_entropy_with_integer_labels(logits[:, :50], ignored)
print("label -100:", by_label, "label 900:", token_900, "one hot:", by_one_hot, "50 classes:", small)
assert by_label == token_900 and by_label > 1 and by_one_hot == 0 and jnp.isnan(small).all(), "changed"
PYTHON
