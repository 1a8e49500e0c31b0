"""The parameters that a state is evaluated with, and states that begin at other parameters."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax.contrib import ScheduleFreeState, schedule_free_eval_params

from mdlm_jax.training.step import State


def evaluated(state: State) -> tuple[Any, Any]:
    """(parameters of the network, the objective's own) for validation, evaluation, sampling and export.

    They are averages where the run keeps some: the exponential average of `optim.ema`, or that of schedule-free
    optimisation, which is computed from the trained parameters and the optimiser's state.

    Args:
        state: The training state. Parameters that are not trained are the same in all averages.

    Reference: schedule-free optimisation, arXiv 2405.15682.
    """
    trained = state.params, state.objective_params
    nodes = jax.tree.leaves(state.opt_state, is_leaf=_is_schedule_free)
    average = next(filter(_is_schedule_free, nodes), None)
    if average is None:
        return (state.ema or state.params), state.objective_params

    def mean(z: Any, y: Any) -> Any:
        return y if _is_masked(z) else schedule_free_eval_params(average._replace(z=z), y)

    return jax.tree.map(mean, average.z, trained, is_leaf=_is_masked)


def beginning_at(state: State, params: Any) -> State:
    """The state before the first step with other parameters of the network, which all of its averages begin at.

    Args:
        state: A state that no step has changed.
        params: The parameters, placed as those of the state.
    """
    start = params, state.objective_params

    def averaged(node: Any) -> Any:
        if not _is_schedule_free(node):
            return node
        z = jax.tree.map(lambda z, y: z if _is_masked(z) else jnp.copy(y), node.z, start, is_leaf=_is_masked)
        return node._replace(z=z)

    opt_state = jax.tree.map(averaged, state.opt_state, is_leaf=_is_schedule_free)
    ema = jax.tree.map(jnp.copy, params) if state.ema else ()
    return state._replace(params=params, opt_state=opt_state, ema=ema)


def _is_schedule_free(node: Any) -> bool:
    return isinstance(node, ScheduleFreeState)


def _is_masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)
