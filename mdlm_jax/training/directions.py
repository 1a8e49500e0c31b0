"""From a gradient to the direction of an update, as the optimisers make it, with the rates of a parametrization."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from mdlm_jax.errors import UserError
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.layout import names_of
from mdlm_jax.models.parametrization import HIDDEN, Rule, rule_of

OPTIMIZERS = ("adamw", "muon", "lion", "schedule_free")
MOMENTUM = 0.95  # of Muon, as in its published code
MUON_SIZE = 0.2  # root mean square of an entry of Muon's update, near that of AdamW's (arXiv 2502.16982)


def directions(
    name: str, beta_1: float, beta_2: float, epsilon: float, architecture: Architecture | None
) -> list[optax.GradientTransformation]:
    """The transformations between clipping and weight decay, of (parameters of the network, the objective's own).

    A parametrization multiplies Adam's epsilon and the learning rate of each array. Weight decay is added after that,
    so that the product of an array's learning rate and its decay is the same at every width.

    Args:
        name: One of OPTIMIZERS.
        beta_1: Decay rate of the first moment.
        beta_2: Decay rate of the second moment.
        epsilon: Added to the root of the second moment.
        architecture: The network; None for a standard one.

    Raises:
        UserError: There is no such optimiser.
    """
    adam = optax.scale_by_adam(b1=beta_1, b2=beta_2, eps=epsilon)
    if name == "adamw":
        found = [adam]
    elif name == "lion":
        found = [optax.scale_by_lion(b1=beta_1, b2=beta_2)]
    elif name == "schedule_free":
        # the average takes the place of Adam's first moment
        found = [optax.scale_by_rms(decay=beta_2, eps=epsilon, eps_in_sqrt=False, bias_correction=True)]
    elif name == "muon":
        muon = optax.contrib.scale_by_muon(beta=MOMENTUM, weight_dimension_numbers=_matrices)
        found = [optax.multi_transform({"matrix": optax.chain(muon, _of_size(MUON_SIZE)), "other": adam}, _labels)]
    else:
        raise UserError(f"optim.name is {name!r}; accepted: {', '.join(OPTIMIZERS)}")
    if architecture is None or architecture.parametrization == "standard":
        return found
    a = architecture

    def rate(path: tuple) -> float:
        rule = _rule(a, path)
        return rule.orthogonal_rate if name == "muon" and is_hidden_matrix(path) else rule.rate

    # Adam divides by a root in proportion to the gradient: to divide epsilon is to multiply the gradient
    return [_scaled(lambda path: 1 / _rule(a, path).epsilon), *found, _scaled(rate)]


def is_hidden_matrix(path: tuple) -> bool:
    """Whether an array is a matrix inside a block, to which Muon applies; stacked over layers."""
    names = names_of(path)
    return names[:1] == ("blocks",) and names[-2] in HIDDEN and names[-1] == "kernel"


def _rule(architecture: Architecture, path: tuple) -> Rule:
    """The rule of an array; an objective's own parameters do not grow with the network."""
    names = names_of(path)
    return rule_of(architecture, names) if names[:1] in (("ends",), ("blocks",)) else Rule()


def _scaled(factor: Callable[[tuple], float]) -> optax.GradientTransformation:
    """Multiplies each array by a factor of its path."""

    def update(updates: Any, params: Any) -> Any:
        return jax.tree.map_with_path(lambda path, leaf: leaf * factor(path), updates)

    return optax.stateless(update)


def _labels(trainable: Any) -> Any:
    return jax.tree.map_with_path(lambda path, _: "matrix" if is_hidden_matrix(path) else "other", trainable)


def _matrices(updates: Any) -> Any:
    """Which axes of each array are a matrix: the first one counts layers."""
    return jax.tree.map(lambda _: optax.contrib.MuonDimensionNumbers(1, 2), updates)


def _of_size(size: float) -> optax.GradientTransformation:
    """Gives orthogonal matrices entries of a root mean square of about `size`, whatever their shape."""

    def update(updates: Any, params: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf * (size * max(leaf.shape[1:]) ** 0.5), updates)

    return optax.stateless(update)
