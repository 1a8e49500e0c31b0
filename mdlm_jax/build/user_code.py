"""Runs a user's own code so that its errors become one line."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.objectives import Objective
from mdlm_jax.plugins import plugin_path
from mdlm_jax.user_file import explained


def check_objective(name: str, objective: Any, length: int, mask_id: int) -> None:
    """Traces a user's objective once, so that a mistake in it is one line and not a trace through JAX."""
    if not isinstance(objective, Objective):
        raise UserError(f"{name} returned {type(objective).__name__}; accepted: a mdlm_jax.objectives.Objective")

    def loss(key, example):
        objective_params = objective.init(key)
        views = objective.view(objective_params, key, example, jnp.float32(0.5))

        def of_view(view):
            return objective.token_loss(objective_params, jnp.zeros((*view.targets.shape, mask_id)), view)

        return jax.vmap(of_view)(views)

    row = Example(jnp.zeros(length, jnp.int32), jnp.ones(length, jnp.int32), jnp.zeros(length, bool))
    in_user_code(name, "view or token_loss", lambda: jax.eval_shape(loss, jax.random.key(0), row))


def in_user_code(name: str, doing: str, call: Callable[[], Any]) -> Any:
    """The result of `call`. Whatever it raises becomes one line with the last line of the user's file involved."""
    with explained(plugin_path(name), name, doing):
        return call()
