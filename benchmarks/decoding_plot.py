"""Plots of quality against cost, for decoding.py."""

import pathlib

import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

# fields of `Quality` that are shown, and what they are
MEASURES = {
    "source_nats": "nats a token under the source",
    "divergence": "divergence from the source, nats",
    "judge_nats": "nats a byte under the judge",
    "entropy": "unigram entropy, nats",
}
COSTS = {"seconds": "seconds a row", "evaluations": "evaluations a row"}
PANELS = (("markov", "divergence"), ("text", "judge_nats"), ("text", "entropy"))


def plot(found: dict, path: pathlib.Path) -> None:
    """A row of panels for each cost; a sampler has one colour and one mark in all of them."""
    plans = [row["plan"] for row in found["markov"]]
    colours, marks = plt.get_cmap("tab20").colors, "osD^vP*X<>hd"
    figure, axes = plt.subplots(len(COSTS), len(PANELS), figsize=(15, 8.5))
    for line, (cost, cost_name) in zip(axes, COSTS.items(), strict=True):
        for axis, (source, measure) in zip(line, PANELS, strict=True):
            for row in found[source]:
                index = plans.index(row["plan"])
                value, error = row["quality"][measure][:2]
                axis.errorbar(
                    row[cost], value, yerr=error, marker=marks[index], color=colours[index], capsize=3, markersize=8,
                    linestyle="none", label=row["plan"],
                )  # fmt: skip
            if cost == "seconds":
                axis.set_xscale("log")
                axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
                axis.xaxis.set_minor_formatter(NullFormatter())
            axis.set_xlabel(cost_name)
            axis.set_ylabel(MEASURES[measure])
            axis.set_title({"markov": "Markov source", "text": "text"}[source])
            axis.grid(alpha=0.3)
            if measure == "divergence":
                axis.axhline(0, color="black", linewidth=0.8)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False)
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    figure.savefig(path, dpi=110)
    plt.close(figure)
