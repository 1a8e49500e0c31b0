"""All samplers by name, and which of them serve an objective. A new sampler is a file here and a line below."""

from collections.abc import Callable
from functools import partial
from typing import Any

from mdlm_jax.errors import UserError
from mdlm_jax.objectives.base import Objective, cross_entropy
from mdlm_jax.sampling.ancestral import Ancestral, FirstHitting
from mdlm_jax.sampling.autoregressive import Autoregressive, Ordered
from mdlm_jax.sampling.base import Sampler
from mdlm_jax.sampling.checks import cannot
from mdlm_jax.sampling.confidence import Confidence
from mdlm_jax.sampling.gaussian import Gaussian
from mdlm_jax.sampling.remasking import Remasking
from mdlm_jax.sampling.reverse import Metropolis, PredictorCorrector, Reverse

# name -> what makes the sampler from its fields
SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "autoregressive": Autoregressive,
    "ordered": Ordered,
    "ancestral": Ancestral,
    "first_hitting": FirstHitting,
    "confidence": Confidence,
    "remasking": Remasking,
    "posterior": partial(Reverse, "posterior"),
    "tweedie": partial(Reverse, "tweedie"),
    "euler": partial(Reverse, "euler"),
    "tau_leaping": partial(Reverse, "tau_leaping"),
    "predictor_corrector": PredictorCorrector,
    "metropolis": Metropolis,
    "gaussian": Gaussian,
}


def samplers_for(objective: Objective, objective_params: Any) -> tuple[str, ...]:
    """The samplers that a network trained with this objective can serve, the usual one first.

    Which these are follows from what the objective declares (`serving.py`). A network trained by the cross-entropy of
    masked tokens is usually sampled by unmasking, any other diffusion by the posterior of its process.

    Raises:
        UserError: No sampler serves this objective.
    """
    names = [name for name, make in SAMPLERS.items() if serves(make(), objective, objective_params)]
    if not names:
        raise UserError("no sampler serves this objective, which declares no noise process; accepted: FILE.py:FUNCTION")
    if objective.token_loss is not cross_entropy and "posterior" in names:
        names.remove("posterior")
        names.insert(0, "posterior")
    return tuple(names)


def serves(sampler: Sampler, objective: Objective, objective_params: Any) -> bool:
    """Whether the objective trains what the sampler needs; a sampler that does not declare it is not refused."""
    declared = getattr(sampler, "serves", None)
    return declared is None or declared(objective, objective_params)


def in_blocks(names: tuple[str, ...]) -> tuple[str, ...]:
    """Those that sample networks trained in blocks."""
    return tuple(name for name in names if "blocks" not in cannot(SAMPLERS[name]()))
