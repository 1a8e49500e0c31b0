"""Training for classifier-free guidance: some rows are trained with their prompt masked."""

import jax
import jax.numpy as jnp

from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.objectives.base import Objective, View, full


def dropped_prompt(objective: Objective, mask_id: int, rate: float) -> Objective:
    """The objective with the prompt (`Example.prompt_mask`) replaced by masks in a share `rate` of the training rows.

    One network then learns both distributions that guidance mixes, with the prompt and without. Its loss is (1 - rate)
    times the objective's plus rate times that of rows without a prompt; evaluation shows every prompt.

    Raises:
        UserError: The rate is outside [0, 1), or the objective does not read whole rows of tokens.

    Reference: arXiv 2207.12598, algorithm 1.
    """
    if not 0 <= rate < 1:
        raise UserError(f"rate={rate} (objective.drop_prompt); accepted: at least 0 and below 1")
    if objective.mask is not full or objective.inputs:
        raise UserError(
            f"rate={rate} (objective.drop_prompt): needs an objective that sees the whole row as tokens, without blocks"
        )

    def view(objective_params, key, example: Example, u) -> View:
        seen = objective.view(objective_params, key, example, u)
        # a key of its own: the noise of a row is the same with its prompt and without
        dropped = jax.random.uniform(jax.random.fold_in(key, 1)) < rate
        return seen._replace(tokens=jnp.where(dropped & example.prompt_mask, mask_id, seen.tokens))

    return objective._replace(
        view=view, estimator=f"{objective.estimator}, prompts dropped", evaluate=objective.evaluate or objective
    )
