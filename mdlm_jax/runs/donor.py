"""The first state of a run that starts from the weights of another."""

import pathlib
from typing import Any

import jax

from mdlm_jax.build import Build
from mdlm_jax.build.network import lora_of
from mdlm_jax.errors import UserError
from mdlm_jax.models.lora import merged
from mdlm_jax.runs.restore import open_run
from mdlm_jax.training.evaluated import beginning_at
from mdlm_jax.training.sharding import Runner
from mdlm_jax.training.step import State


def start_from(folder: pathlib.Path, built: Build, runner: Runner, state: State) -> State:
    """The initial state with the weights of another run's newest checkpoint (the averaged ones if it has them).

    A network that never read a mask gets the mean of the tokens' embeddings as that of the mask.

    Args:
        folder: The other run's.
        built: This run's build.
        runner: This run's runner.
        state: This run's initial state, on its devices.

    Raises:
        UserError: The other run has no checkpoint, or another network.
    """
    donor = open_run(folder)
    if donor.plan.architecture.for_any_image != built.plan.architecture.for_any_image:
        raise UserError(
            f"config.start_from={folder}: its network is {donor.plan.architecture}; "
            f"accepted: one of {built.plan.architecture}"
        )
    whole, lora = runner.whole(state), lora_of(donor.config)
    given = donor.params if lora is None else merged(donor.params, lora)
    without_mask = donor.config.objective.name == "ar" and donor.config.data.extra_token
    if without_mask and built.objective.bound != "exact":
        given = with_mean_mask(given)
    own = {name: whole.params[name] for name in given}
    # adapters of this run's own stay as they begin
    params = {**whole.params, **jax.tree.map(lambda old, new: jax.device_put(new, old.sharding), own, given)}
    return runner.scatter(beginning_at(whole, params))


def with_mean_mask(params: Any) -> Any:
    """The parameters with the mean of the tokens' embeddings in the last row of the embedding, the mask's."""
    table = params["ends"]["embedding"]["embedding"]
    table = table.at[-1].set(table[:-1].mean(axis=0))
    return {**params, "ends": {**params["ends"], "embedding": {"embedding": table}}}
