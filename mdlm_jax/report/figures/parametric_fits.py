"""How well L(N, D) = E + A / N^alpha + B / D^beta fits the runs, and how precisely they determine it."""

import altair as alt
import numpy as np

from mdlm_jax.laws import HeldOut
from mdlm_jax.report.figures import charts
from mdlm_jax.report.figures.charts import Figure, Specification
from mdlm_jax.report.parametric_fits import PROFILED, ParametricFit
from mdlm_jax.report.study import Study
from mdlm_jax.report.text import audits, fits

HIGHEST = 3.0  # deviance that is drawn, in thresholds
PERCENT = "100 (ln L - ln predicted), %"


def _fitted(study: Study) -> dict[str, ParametricFit]:
    return {name: surface for name, surface in study.parametric_fits.items() if isinstance(surface, ParametricFit)}


def _residuals(study: Study, name: str, surface: ParametricFit, heights: list[float], first: bool) -> Specification:
    rows = [
        {"C": run.budget, "N": run.parameters_non_embedding, "residual": 100 * residual, "run": run.run_id}
        for run, residual in zip(study.analysis.runs[name], surface.residuals.tolist(), strict=True)
    ]
    width = charts.width(len(_fitted(study)), 125)
    title = charts.flops("budget in FLOPs", study.analysis.counter)
    x = charts.x("C", title, [row["C"] for row in rows], pixels=width)
    y = charts.y("residual", PERCENT if first else None, heights)
    color = charts.shades("N:Q", "N", alt.Legend(format=".2~s", gradientLength=120), type="log")
    points = alt.Chart(charts.data(rows)).mark_point(filled=True, size=45, opacity=1)
    zero = alt.Chart(charts.data([{"zero": 0}])).mark_rule(strokeWidth=1.2).encode(y="zero:Q")
    tooltip = charts.tips(run="", residual=".2f", N=",")
    layers = [points.encode(x=x, y=y, color=color, tooltip=tooltip), zero]
    return charts.layered(layers, width=width, height=230, title=name, zoom=f"residual_{name}")


def residuals(study: Study) -> Figure | None:
    """Residuals against the budget, one panel an objective. The notes have the fits, and why there is none."""
    fitted = _fitted(study)
    if not fitted:
        return None
    heights = [100 * float(value) for surface in fitted.values() for value in surface.residuals]
    drawn = [
        _residuals(study, name, surface, heights, number % 3 == 0)
        for number, (name, surface) in enumerate(fitted.items())
    ]
    return Figure(
        "surface_residuals",
        "Parametric fit L(N, D): residuals",
        "What each run lies above (+) or below (-) the fit of E + A / N^alpha + B / D^beta to all runs of its "
        "objective. A trend with the budget or the size is misfit, not noise.",
        charts.panels(drawn, "Residuals of L(N, D)", "one point a run, shaded by its size N"),
        fits.fits(study.parametric_fits),
    )


def _profile(study: Study, parameter: str, legend: bool) -> Specification:
    rows = []
    for name, surface in _fitted(study).items():
        found = surface.profiles[PROFILED.index(parameter)]
        share = found.deviance / found.threshold
        for value, height in zip(found.values.tolist(), share.tolist(), strict=True):
            if height <= HIGHEST:
                rows.append({"objective": name, "value": value, "deviance": height})
    title = "E (nats per token)" if parameter == "E" else parameter
    x = charts.x("value", title, [row["value"] for row in rows], log=False)
    y = charts.y("deviance", "deviance / 95% threshold" if parameter == PROFILED[0] else None, [0.0, HIGHEST])
    lines = alt.Chart(charts.data(rows)).mark_line(strokeWidth=2)
    tooltip = charts.tips(objective="", value=".4f", deviance=".2f")
    lines = lines.encode(
        x=x, y=y, color=charts.color(list(study.analysis.runs), study.analysis.runs, legend), tooltip=tooltip
    )
    line = alt.Chart(charts.data([{"one": 1}])).mark_rule(strokeDash=[6, 4], color="black").encode(y="one:Q")
    heading, zoom = f"profile of {parameter}", f"profile_{parameter}"
    return charts.layered([lines, line], width=charts.width(3, 120), height=230, title=heading, zoom=zoom)


def profiles(study: Study) -> Figure | None:
    """Profile likelihoods of E and both exponents, every objective in one panel a parameter."""
    fitted = _fitted(study)
    if not fitted:
        return None
    return Figure(
        "surface_profiles",
        "Parametric fit L(N, D): profile likelihoods",
        "Twice the log likelihood that is lost where one parameter is held and the others are fitted again, over what "
        "noise explains in 95% of cases. What lies below the dashed line is the 95% interval; a curve that does not "
        "cross it on both sides bounds nothing.",
        charts.panels(
            [_profile(study, parameter, parameter == PROFILED[-1]) for parameter in PROFILED],
            "Profile likelihoods of E, alpha and beta",
            "below the dashed line: 95% interval",
        ),
        fits.unbounded(study.parametric_fits),
    )


def held_out(study: Study) -> Figure | None:
    """How far each budget lies from what the fit to all other budgets says of it."""
    rows = [
        {"objective": name, "C": budget, "error": 100 * error, "bias": 100 * bias}
        for name, surface in _fitted(study).items()
        if isinstance(surface.held_out, HeldOut)
        for budget, bias, error in zip(*(np.asarray(column).tolist() for column in surface.held_out), strict=True)
    ]
    if not rows:
        return None
    names = list(study.analysis.runs)
    title = charts.flops("budget left out, in FLOPs", study.analysis.counter)
    x = charts.x("C", title, [row["C"] for row in rows], pixels=charts.WIDTH - 330)
    y = charts.y("bias", f"mean {PERCENT}", [row["bias"] for row in rows] + [0.0])
    points = alt.Chart(charts.data(rows)).mark_line(point={"filled": True, "size": 60}, strokeWidth=1.2)
    tooltip = charts.tips(objective="", C=".3~g", bias=".2f", error=".2f")
    zero = alt.Chart(charts.data([{"zero": 0}])).mark_rule(strokeWidth=1.2).encode(y="zero:Q")
    layers = [points.encode(x=x, y=y, color=charts.color(names, names), tooltip=tooltip), zero]
    layered = charts.layered(layers, width=charts.WIDTH - 330, height=230, zoom="held_out")
    return Figure(
        "held_out",
        "Parametric fit L(N, D): budgets left out",
        "Each budget predicted by the same law fitted to the runs of all others: the mean error over its runs. The "
        "largest budget shows how well the law extrapolates.",
        charts.panels([layered], "Error of predicting a budget from the others", "0: as predicted"),
        fits.held_out(study.parametric_fits),
    )


def extrapolation(study: Study) -> Figure | None:
    """The error of every loss that was left out with the largest budgets or sizes, against its distance."""
    rows = [
        {"objective": name, "left out": f"largest {held_out}", "distance": distance, "error": 100 * error}
        for name, surface in _fitted(study).items()
        for held_out, distance, error in zip(
            surface.audit.held_out, surface.audit.distance.tolist(), surface.audit.error.tolist(), strict=True
        )
    ]
    if not rows:
        return None
    names = list(study.analysis.runs)
    x = charts.x("distance", "decades outside the fitted runs", [row["distance"] for row in rows] + [0.0], log=False)
    y = charts.y("error", PERCENT, [row["error"] for row in rows] + [0.0])
    points = alt.Chart(charts.data(rows)).mark_point(filled=True, size=45, opacity=0.7)
    tooltip = charts.tips(objective="", distance=".2f", error=".2f")
    points = points.encode(x=x, y=y, color=charts.color(names, names), shape=alt.Shape("left out:N"), tooltip=tooltip)
    zero = alt.Chart(charts.data([{"zero": 0}])).mark_rule(strokeWidth=1.2).encode(y="zero:Q")
    layered = charts.layered([points, zero], width=charts.WIDTH - 330, height=230, zoom="extrapolation")
    return Figure(
        "extrapolation",
        "Parametric fit L(N, D): extrapolation",
        "The law fitted without its largest budgets, one more each time, and without its largest sizes. A point is a "
        "run that was left out: what its loss lies above (+) or below (-) the prediction, and how far outside the "
        "fitted runs it is, in decades of N and D.",
        charts.panels([layered], "Errors against distance", "0: as predicted"),
        audits.extrapolations(study.parametric_fits),
    )
