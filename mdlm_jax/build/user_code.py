"""A user's own code: it runs where what it raises becomes one line."""

import traceback
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.objectives import Objective
from mdlm_jax.plugins import plugin_path


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
    in_user_code(name, " view or token_loss:", lambda: jax.eval_shape(loss, jax.random.key(0), row))


def in_user_code(name: str, what: str, call: Callable[[], Any]) -> Any:
    """The result of `call`. Whatever it raises becomes one line with the last line of the user's file involved."""
    try:
        return call()
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        path = str(plugin_path(name))
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        where = f", line {lines[-1]}" if lines else ""
        message = " ".join(str(error).split())[:300]
        raise UserError(f"{name}{where}:{what} {type(error).__name__}: {message}") from error
