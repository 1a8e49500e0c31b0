"""How good samples are against how fast they come: nats of a judge and entropy, never one without the other."""

from typing import Any

import altair as alt

from mdlm_jax.report.figures import charts
from mdlm_jax.report.figures.charts import Figure, Specification
from mdlm_jax.report.samples import Sampled
from mdlm_jax.style import number

QUALITIES = {"judge_nats": "nats per token under the judge", "entropy": "entropy of a row's tokens (nats)"}


def _rows(sampled: list[Sampled]) -> list[dict]:
    rows = []
    for one in sampled:
        run = one.run
        budget = f"{number(run.budget)} FLOPs" if run.budget > 0 else f"{number(run.tokens)} tokens"
        for plan in one.plans:
            row = {"objective": run.objective, "run": run.run_id, "budget": budget, "plan": plan.plan}
            row |= {"speed": plan.tokens_per_second, "evaluations": plan.evaluations}
            for quality in QUALITIES:
                mean, error = getattr(plan, quality)
                row |= {quality: mean, f"{quality}_low": mean - error, f"{quality}_high": mean + error}
            rows.append(row)
    return rows


def _panel(rows: list[dict], quality: str, legend: bool) -> Specification:
    names, budgets = (list(dict.fromkeys(row[key] for row in rows)) for key in ("objective", "budget"))
    width = charts.width(2, 200)
    ends = [row[f"{quality}_{end}"] for row in rows for end in ("low", "high")]
    x = charts.x("speed", "tokens per second", [row["speed"] for row in rows], charts.AMOUNT, pixels=width)
    y, low = (charts.y(field, QUALITIES[quality], ends) for field in (quality, f"{quality}_low"))
    color = charts.color(names, names, legend)
    key: dict[str, Any] = {"legend": alt.Legend(symbolOpacity=1) if legend else None}
    dash = alt.StrokeDash("budget:N", sort=budgets, title="budget", **key)
    plans = alt.Shape("plan:N", sort=list(dict.fromkeys(row["plan"] for row in rows)), title="plan", **key)
    chart = alt.Chart(charts.data(rows))
    tooltip = charts.tips(run="", plan="", speed=".3~s", evaluations=".4~g", judge_nats=".3f", entropy=".3f")
    layers = [
        chart.mark_line(strokeWidth=1.2, opacity=0.6).encode(
            x=x, y=y, color=color, strokeDash=dash, detail="run:N", order="speed:Q"
        ),
        chart.mark_rule().encode(x=x, y=low, y2=f"{quality}_high:Q", color=color),
        chart.mark_point(filled=True, size=75, opacity=1).encode(x=x, y=y, color=color, shape=plans, tooltip=tooltip),
    ]
    return charts.layered(layers, width=width, height=290, title=QUALITIES[quality], zoom=f"samples_{quality}")


def speed_and_quality(sampled: list[Sampled]) -> Figure | None:
    """Two panels with one x: what the judge says, and how varied the samples are."""
    rows = _rows(sampled)
    if not rows:
        return None
    judges = ", ".join(sorted({one.judge for one in sampled}))
    devices = ", ".join(sorted({one.device for one in sampled}))
    lengths = ", ".join(sorted({f"{one.rows} rows of {one.length} tokens" for one in sampled}))
    return Figure(
        "speed_quality",
        "Speed and quality of samples",
        f"{lengths} a plan on {devices}, judged by {judges}; bars are one standard error, a line joins the plans of "
        "one run. Low nats under a judge are also what repetitive text gets, so read them beside the entropy: of two "
        "samplers of equal entropy the one with fewer nats is better. Likelihoods of different families do not rank "
        "their samplers (arXiv 2602.15014).",
        charts.panels(
            [_panel(rows, quality, quality == "entropy") for quality in QUALITIES],
            "What samples cost and are worth",
            "nats say little without the entropy beside them",
        ),
    )
