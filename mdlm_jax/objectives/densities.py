"""Training noise levels drawn from any density, with the importance weight that keeps the bound."""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
from mdlm_jax.kinds import parse_kind
from mdlm_jax.objectives.base import Objective, View, ViewFn

BINS = 256
LEAST = 0.01  # of a density that is weighted: a level that is drawn more rarely gets weights above 100

# the parameters of each kind, with their defaults
KINDS = {
    "bell": {"mean": 0.5, "width": 0.2, "floor": 0.1},
    "clipped": {"low": 0.0, "high": 1.0},
    "learned": {"floor": 0.2, "rate": 0.01},
}


class Density(NamedTuple):
    """A density of noise levels in [0, 1], constant within each bin."""

    edges: Float[np.ndarray, "n+1"]
    mass: Float[np.ndarray, "n"]  # probability of each bin


class Learned(NamedTuple):
    """A density that follows the loss of each noise level in training (`training/levels.py`)."""

    floor: float  # share of the uniform density in it
    rate: float  # at which a step replaces what is remembered


def parse_density(text: str) -> Density | Learned:
    """The density of a text such as `bell:mean=0.5,width=0.2,floor=0.1` or `clipped:low=0.3,high=0.8`.

    `bell` is a normal density cut to [0, 1], mixed with a share `floor` of the uniform density. `clipped` is uniform
    in [low, high]. `learned` follows the loss, mixed with a share `floor` of the uniform density.

    Raises:
        UserError: The kind or a parameter is unknown, or a parameter is out of range.
    """
    kind, values = parse_kind("objective.density", text, KINDS, 1.0, "from 0 to 1")
    if kind == "clipped":
        if not values["low"] < values["high"]:
            raise UserError(f"objective.density is {text!r}; accepted: low < high")
        return Density(np.array([values["low"], values["high"]]), np.ones(1))
    if kind == "learned":
        for name, least in (("floor", LEAST), ("rate", 0.0)):
            if not values[name] > least:
                raise UserError(f"objective.density is {text!r}; accepted: a {name} above {least:g}")
        return Learned(**values)
    if values["width"] < 1 / BINS:
        raise UserError(f"objective.density is {text!r}; accepted: a width of at least {1 / BINS:.4f}")
    edges = np.linspace(0, 1, BINS + 1)
    scaled = (edges - values["mean"]) / (values["width"] * math.sqrt(2))
    normal = np.diff([math.erf(end) for end in scaled])
    return Density(edges, (1 - values["floor"]) * normal / normal.sum() + values["floor"] / BINS)


def with_density(objective: Objective, density: Density, weighted: bool = True) -> Objective:
    """The objective with its training noise levels drawn from a density; evaluation is unchanged.

    A level is drawn by the inverse of the distribution function, so that levels stay stratified over a batch. With the
    weight 1 / density, the mean of the loss is unchanged wherever the density is positive.

    Args:
        objective: An objective whose noise level is a function of the u it is given.
        density: The density of u.
        weighted: Weight each view by 1 / density. Without it, the loss is no bound.

    Raises:
        UserError: The density is weighted, covers [0, 1] and falls below 0.01 somewhere.

    Reference: VDM, arXiv 2107.00630, section 5.1; bell-shaped densities for masked diffusion, arXiv 2605.13026.
    """
    smallest = float((density.mass / np.diff(density.edges)).min())
    if weighted and smallest < LEAST:
        raise UserError(
            f"objective.density is {smallest:.2g} at some noise levels; accepted: at least {LEAST} everywhere "
            "(a larger floor), or objective.density_weighted=False"
        )
    whole = (density.edges[0], density.edges[-1]) == (0.0, 1.0)
    # slopes of the rounded distribution function, so that rounding makes no bias
    ends = np.concatenate([[0], np.cumsum(density.mass)]).astype(np.float32)
    ends[-1] = 1
    start, width = density.edges[:-1].astype(np.float32), np.diff(density.edges)
    slope = (width / np.diff(ends.astype(np.float64))).astype(np.float32)

    return objective._replace(
        view=_view_at(objective, Bins(start, ends, slope), weighted),
        bound=objective.bound if weighted and whole else "none",
        estimator=f"{objective.estimator}, {'weighted' if weighted else 'unweighted'} density",
        evaluate=objective.evaluate or objective,
    )


class Bins(NamedTuple):
    """A density that is constant within each of n bins, as drawing reads it."""

    start: Float[Array | np.ndarray, "n"]  # the lowest noise level of each bin
    ends: Float[Array | np.ndarray, "n+1"]  # the distribution function at the ends of the bins, from 0 to 1
    slope: Float[Array | np.ndarray, "n"]  # 1 / density in each bin

    def at(self, u: Float[Array, "*k"]) -> tuple[Float[Array, "*k"], Float[Array, "*k"], Int[Array, "*k"]]:
        """(noise level, 1 / density there, bin) of a uniform u, by the inverse of the distribution function."""
        start, ends, slopes = map(jnp.asarray, self)
        number = jnp.searchsorted(ends[1:-1], u, side="right")
        slope = slopes[number]
        level = start[number] + (u - ends[number]) * slope
        return jnp.clip(level, 0, np.nextafter(np.float32(1), np.float32(0))), slope, number


def with_bins(objective: Objective, bins: Bins) -> Objective:
    """The objective with its noise levels drawn from a density of traced numbers, weighted by 1 / density."""
    return objective._replace(view=_view_at(objective, bins, weighted=True))


def with_learned(objective: Objective) -> Objective:
    """The objective as it is described where the train step learns its density; evaluation is unchanged.

    The density of a step depends on earlier steps alone, so with its weight the loss keeps its mean.
    """
    return objective._replace(
        estimator=f"{objective.estimator}, learned density", evaluate=objective.evaluate or objective
    )


def _view_at(objective: Objective, bins: Bins, weighted: bool) -> ViewFn:
    def view(objective_params, key, example: Example, u) -> View:
        level, slope, _ = bins.at(u)
        seen = objective.view(objective_params, key, example, level)
        factor = slope if weighted else 1.0
        return seen._replace(weight=seen.weight * factor, constant=seen.constant * factor)

    return view
