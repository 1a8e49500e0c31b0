"""Learning curves of all runs, and the frontier over all of their points."""

import altair as alt

from mdlm_jax.laws import Frontier, Refusal
from mdlm_jax.report.analysis import likelihoods
from mdlm_jax.report.figures import charts
from mdlm_jax.report.figures.charts import Figure, Specification
from mdlm_jax.report.study import Study

FRONTIER_POINTS = 150  # of the 1,500 that are read, what a panel can show


def _frontier(found: Frontier) -> list[dict]:
    every = max(len(found.flops) // FRONTIER_POINTS, 1)
    return [
        {"C": c, "loss": y} for c, y in zip(found.flops[::every].tolist(), found.loss[::every].tolist(), strict=True)
    ]


def _panel(study: Study, name: str, losses: list[float | None], first: bool, num_panels: int) -> Specification:
    counter = study.analysis.counter
    shown = [run for run in study.analysis.runs[name] if run.run_id in study.curves]
    rows = [
        {"run": run.run_id, "N": run.parameters_non_embedding, "C": c, "loss": y}
        for run in shown
        for c, y in zip(*(column.tolist() for column in study.curves[run.run_id]), strict=True)
    ]
    width = charts.width(num_panels, 135)
    x = charts.x("C", charts.flops("training FLOPs so far", counter), [row["C"] for row in rows], pixels=width)
    y = charts.y("loss", "training loss (nats per token)" if first else None, losses, log=True)
    size = charts.shades("N:O", "N", alt.Legend(format=".3~s", symbolLimit=12, symbolOpacity=1))
    # opacity of the stroke: that of a mark is a layer of its own for each run, 5 s of CPU for the PNG of 500
    lines = alt.Chart(charts.data(rows)).mark_line(strokeWidth=1, strokeOpacity=0.55)
    layers = [lines.encode(x=x, y=y, color=size, detail="run:N", tooltip=charts.tips(run="", N=","))]
    found = study.frontiers.get(name)
    if isinstance(found, Frontier):
        frontier = alt.Chart(charts.data(_frontier(found))).mark_line(strokeWidth=2.2, color="black")
        layers.append(frontier.encode(x=x, y=y))
    own = "" if name in likelihoods(study.analysis) else " (own axis)"
    return charts.layered(layers, width=width, height=270, title=name + own, zoom=f"learning_{name}")


def learning_curves(study: Study) -> Figure | None:
    """One panel an objective; where a frontier is refused, the notes say why."""
    if not study.curves:
        return None
    losses = {
        name: [loss for run in runs if run.run_id in study.curves for loss in study.curves[run.run_id][1].tolist()]
        for name, runs in study.analysis.runs.items()
        if name in study.frontiers
    }
    shared = [loss for name in likelihoods(study.analysis) for loss in losses.get(name, [])]
    drawn = [
        _panel(study, name, shared if name in likelihoods(study.analysis) else mine, index % 3 == 0, len(losses))
        for index, (name, mine) in enumerate(losses.items())
    ]
    refused = [f"{name}: no frontier, {it.reason}." for name, it in study.frontiers.items() if isinstance(it, Refusal)]
    return Figure(
        "learning_curves",
        "Learning curves",
        "Training loss of every run against the FLOPs spent so far, averaged within narrow bins. The black line is the "
        "lowest of all smoothed curves at each compute (approach 1 of Hoffmann et al. 2022). Runs whose learning rate "
        "is still high lie above what their compute could reach.",
        charts.panels(
            drawn, "Learning curves", "thin: every run, by its size N; black: frontier over all of their points"
        ),
        refused,
    )
