"""What the parametric fits L(N, D) say, in sentences."""

import numpy as np

from mdlm_jax.laws import HeldOut, Profile, Refusal
from mdlm_jax.report.parametric_fits import ParametricFit
from mdlm_jax.report.text.findings import refusals
from mdlm_jax.style import number


def _interval(profile: Profile) -> str:
    if isinstance(profile.interval, Refusal):
        return "[not bounded]"
    return f"[{profile.interval[0]:.3f}, {profile.interval[1]:.3f}]"


def fits(surfaces: dict[str, ParametricFit | Refusal]) -> list[str]:
    """The parameters of each objective with the intervals of their profiles, or why there is no fit."""
    refused = {name: surface for name, surface in surfaces.items() if isinstance(surface, Refusal)}
    sentences = refusals("no parametric fit", refused)
    for name, surface in surfaces.items():
        if isinstance(surface, Refusal):
            continue
        told = [
            f"{profile.parameter} = {getattr(surface.fitted.values, profile.parameter):.3f} {_interval(profile)}"
            for profile in surface.profiles
        ]
        share, low, high = surface.exponent
        spread = 100 * np.sqrt(np.mean(surface.residuals**2))
        sentences.append(
            f"{name}: {', '.join(told)} (95% profile intervals); N* ∝ C^{share:.3f} [{low:.3f}, {high:.3f}] for C of "
            f"the counter 'six_nonembedding' (bootstrap over runs). Residuals: {spread:.2f}% of the loss."
        )
    return sentences


def unbounded(surfaces: dict[str, ParametricFit | Refusal]) -> list[str]:
    """The parameters whose profile bounds nothing."""
    return [
        f"{name}: {profile.interval.reason}."
        for name, surface in surfaces.items()
        if isinstance(surface, ParametricFit)
        for profile in surface.profiles
        if isinstance(profile.interval, Refusal)
    ]


def held_out(surfaces: dict[str, ParametricFit | Refusal]) -> list[str]:
    """How well the largest budget is predicted by the others, or why no budget can be left out."""
    sentences = []
    for name, surface in surfaces.items():
        if not isinstance(surface, ParametricFit):
            continue
        found = surface.held_out
        if isinstance(found, HeldOut):
            sentences.append(
                f"{name}: the largest budget ({number(found.budgets[-1])} FLOPs), predicted by the others, is off by "
                f"{100 * found.bias[-1]:+.2f}% of the loss on average over its runs (root mean square "
                f"{100 * found.error[-1]:.2f}%)."
            )
        else:
            sentences.append(f"{name}: no budget can be left out: {found.reason}.")
    return sentences
