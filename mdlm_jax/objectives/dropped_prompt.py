"""Training for classifier-free guidance: now and then the network answers without having seen the prompt."""

import jax
import jax.numpy as jnp

from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.objectives.base import Objective, View, full


def dropped_prompt(objective: Objective, mask_id: int, rate: float) -> Objective:
    """The objective, with what is given (`Example.prompt_mask`) shown as masks in a share `rate` of the training rows.

    One network then knows both distributions that guidance mixes, with the prompt and without (arXiv 2207.12598,
    algorithm 1). Its loss is (1 - rate) times the objective's plus rate times that of rows without a prompt; what is
    reported sees every prompt. Raises UserError for a rate outside [0, 1) and for objectives that do not read whole
    rows of tokens.
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
