#!/usr/bin/env bash
# optax 0.2.8 with jax 0.10.2.
# Behaviour: inject_hyperparams casts every hyperparameter to the dtype of the parameters. With parameters in bfloat16,
#   Adam's b2 = 0.999 becomes 1, so that the bias correction divides by 0. optax.adam itself keeps Python floats.
# Seen: the first update of optax.inject_hyperparams(optax.adam)(learning_rate=1e-3) is NaN; that of optax.adam(1e-3)
#   is -0.001. With parameters in float32 both are -0.001.
# Misled: whoever logs or changes the learning rate of a network in bfloat16 in this way, and looks for NaN in the data.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q optax==0.2.8 jax==0.10.2
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import jax.numpy as jnp
import optax

makers = {"adam": optax.adam, "injected": optax.inject_hyperparams(optax.adam)}
for dtype in (jnp.float32, jnp.bfloat16):
    for name, maker in makers.items():
        optimizer = maker(learning_rate=1e-3)
        params = jnp.ones(3, dtype)
        update, state = optimizer.update(jnp.ones(3, dtype), optimizer.init(params), params)
        print(jnp.dtype(dtype).name, name, update[0], getattr(state, "hyperparams", {}).get("b2"))
        broken = name == "injected" and dtype == jnp.bfloat16
        assert jnp.isnan(update).all() if broken else jnp.allclose(update.astype(float), -1e-3, rtol=1e-2), "changed"
assert state.hyperparams["b2"] == 1.0, "changed"
PYTHON
