"""No loss ever holds an array [L, V]: what the compiler reserves for look, loss and gradient does not grow with L V."""

import jax
import jax.numpy as jnp
import pytest

from mdlm_jax.data import Example
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives import OBJECTIVES
from mdlm_jax.processes.mixture import absorbing, hybrid, uniform
from mdlm_jax.schedules import linear
from mdlm_jax.training.loss import look, nats

V, WIDTH, CHUNK = 32_000, 64, 128
MAKE = {
    "sedd uniform": lambda: OBJECTIVES["sedd"](uniform(V, linear()), "raw"),
    "udlm": lambda: OBJECTIVES["udlm"](V, linear()),
    "d3pm uniform": lambda: OBJECTIVES["d3pm"](uniform(V, linear()), 1000, 0.0),
    "tauldr uniform": lambda: OBJECTIVES["tauldr"](uniform(V, linear())),
    "genmd4": lambda: OBJECTIVES["genmd4"](V),
    "masked": lambda: OBJECTIVES["masked"](V, linear()),
    "d3pm hybrid": lambda: OBJECTIVES["d3pm"](hybrid(V, linear(), 0.5), 1000, 0.01),
    "sedd absorbing": lambda: OBJECTIVES["sedd"](absorbing(V, linear()), "scaled"),
    "gidd": lambda: OBJECTIVES["gidd"](V, linear(), 0.2, 1.0),
    "duo": lambda: OBJECTIVES["duo"](V),
    "csm": lambda: OBJECTIVES["csm"](V, linear(), "denoising"),
    "csm implicit": lambda: OBJECTIVES["csm"](V, linear(), "implicit"),
    "gaussian": lambda: OBJECTIVES["gaussian"](V),
}
FEW = ("sedd uniform", "udlm", "tauldr uniform")


@pytest.mark.parametrize("name", [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in MAKE])
def test_memory_does_not_grow_with_row_length(name):
    objective = MAKE[name]()
    architecture = Architecture(V, 1, WIDTH, 4, 4, WIDTH, input_width=objective.inputs)
    model = transformer(architecture, Execution())
    objective_params, params = (jax.eval_shape(init, jax.random.key(0)) for init in (objective.init, model.init))

    def temporary_bytes(length):
        def total(params, objective_params, example, u):
            def hidden(params, view, mask, **_):  # the network itself left out
                row = params["ends"]["head"][:, 0]
                return jnp.broadcast_to(row, (*view.tokens.shape, WIDTH)), None

            view = look(objective, objective_params, jax.random.key(0)[None], example, u)
            return nats(model._replace(hidden=hidden), objective, params, objective_params, view, CHUNK)[0]

        ids = jax.ShapeDtypeStruct((1, length), jnp.int32)
        example = Example(ids, ids, jax.ShapeDtypeStruct((1, length), jnp.bool_))
        lowered = jax.jit(jax.grad(total, argnums=(0, 1))).lower(params, objective_params, example, jnp.zeros(1))
        return lowered.compile().memory_analysis().temp_size_in_bytes

    grown = temporary_bytes(1024) - temporary_bytes(512)
    assert grown < 0.02 * 512 * V * 4
