"""The parametric fits L(N, D), in sentences."""

import numpy as np

from mdlm_jax.costs.counters import COUNTER_LABELS
from mdlm_jax.laws import HeldOut, Profile, Refusal
from mdlm_jax.report.parametric_fits import ParametricFit
from mdlm_jax.report.text.findings import refusals
from mdlm_jax.style import number


def _interval(profile: Profile) -> str:
    if isinstance(profile.interval, Refusal):
        return "[not bounded]"
    return f"[{profile.interval[0]:.3f}, {profile.interval[1]:.3f}]"


def fits(surfaces: dict[str, ParametricFit | Refusal]) -> list[str]:
    """The parameters of each objective with their profile intervals, or why there is no fit."""
    refused = {name: surface for name, surface in surfaces.items() if isinstance(surface, Refusal)}
    sentences = refusals("no parametric fit", refused)
    for name, surface in surfaces.items():
        if isinstance(surface, Refusal):
            continue
        values = [
            f"{profile.parameter} = {getattr(surface.fitted.values, profile.parameter):.3f} {_interval(profile)}"
            for profile in surface.profiles
        ]
        share, low, high = surface.exponent
        spread = 100 * np.sqrt(np.mean(surface.residuals**2))
        sentences.append(
            f"{name}: {', '.join(values)} (95% profile intervals); N* ∝ C^{share:.3f} [{low:.3f}, {high:.3f}] for "
            f"C = {COUNTER_LABELS['six_nonembedding']} (bootstrap over runs). Residuals: {spread:.2f}% of the loss."
        )
    return sentences


def unbounded(surfaces: dict[str, ParametricFit | Refusal]) -> list[str]:
    """The parameters that the profile likelihood does not bound."""
    return [
        f"{name}: {profile.interval.reason}."
        for name, surface in surfaces.items()
        if isinstance(surface, ParametricFit)
        for profile in surface.profiles
        if isinstance(profile.interval, Refusal)
    ]


def held_out(surfaces: dict[str, ParametricFit | Refusal]) -> list[str]:
    """How well the other budgets predict the largest one, or why no budget can be left out."""
    sentences = []
    for name, surface in surfaces.items():
        if not isinstance(surface, ParametricFit):
            continue
        found = surface.held_out
        if isinstance(found, HeldOut):
            sentences.append(
                f"{name}: predicted from the other budgets, the losses at the largest ({number(found.budgets[-1])} "
                f"FLOPs) are {100 * found.bias[-1]:+.2f}% off on average (root mean square "
                f"{100 * found.error[-1]:.2f}%)."
            )
        else:
            sentences.append(f"{name}: no budget can be left out: {found.reason}.")
    return sentences
