"""Whole rows whose positions predict the token after the one they read: Dream, a masked model made of a causal one."""

from typing import Any

from jaxtyping import Array, Float

from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.objectives.base import Objective, View, full


def shifted(objective: Objective) -> Objective:
    """The objective with the logits of position i as the prediction of token i + 1.

    No position predicts the first token of a row, so it must be in the prompt mask, and it is never masked. The last
    position is read, and predicts nothing.

    Args:
        objective: One that reads the tokens of a row at their positions, and sees the whole row.

    Raises:
        UserError: The objective is causal or in blocks, or reads vectors.

    Reference: Dream, arXiv 2508.15487.
    """
    if objective.mask is not full or objective.inputs:
        raise UserError("objective: shifted predictions need one that sees the whole row as tokens, such as masked")

    def view(objective_params: Any, key: Array, example: Example, u: Float[Array, ""]) -> View:
        seen = objective.view(objective_params, key, example, u)
        return seen._replace(targets=seen.targets[:, 1:], weight=seen.weight[:, 1:])

    evaluate = objective.evaluate
    return objective._replace(view=view, evaluate=None if evaluate is None else shifted(evaluate))
