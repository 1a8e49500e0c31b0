"""Programs that the runs of one process share, so that equal programs are traced and compiled once."""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from mdlm_jax.build import Build
from mdlm_jax.build.objective import objective_source_digest
from mdlm_jax.config import flatten
from mdlm_jax.runs.population import OWN, Program
from mdlm_jax.training.sharding import Runner

# keys that no compiled program depends on: they set the data, leaves of the state, or what the host does
OF_NO_PROGRAM = frozenset(
    {
        *OWN,
        *("budget", "budget_counter", "steps", "data.unique_tokens", "data.epochs", "eval.sequences", "eval.draws"),
        *("train.log_every", "train.validate_every", "train.checkpoint_every", "train.checkpoint_at", "train.loggers"),
        *("branch_from", "start_from"),
    }
)
FUNCTIONS = ("model", "validation_model", "objective", "optimizer", "make_state")  # of a Build: jax caches by identity
MOST = 16  # programs that are kept; the one whose last use is longest ago goes first


class Compiled(NamedTuple):
    """What runs with equal programs share. JAX compiles each function when it is first called."""

    functions: dict[str, Any]  # FUNCTIONS of the first run's Build
    runner: Runner
    program: Program


Programs = dict[Hashable, Compiled]  # in the order of their last use


def shape_of(config: ConfigDict) -> tuple:
    """The values of a config that its programs depend on. Runs with equal ones can share compiled programs."""
    return tuple(sorted((key, value) for key, value in flatten(config) if key not in OF_NO_PROGRAM))


def shared(
    programs: Programs, config: ConfigDict, built: Build, members: int, make: Callable[[], Compiled]
) -> Compiled:
    """The programs of a run, from an earlier run of this process if it had the same ones.

    Args:
        programs: Those of the runs so far; it is updated.
        config: The run's config.
        built: Its build. The architecture has what a config takes from its data, such as the vocabulary; the mesh has
            the devices.
        members: How many runs are stepped together.
        make: Makes the programs where no earlier run had them.
    """
    key = shape_of(config), built.plan.architecture, objective_source_digest(config), built.mesh, members
    found = programs.pop(key, None) or make()
    programs[key] = found
    for oldest in list(programs)[:-MOST]:
        del programs[oldest]
    return found
