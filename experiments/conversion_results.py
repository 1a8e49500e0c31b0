"""The tables and the figure of the stored results of `conversion.py`."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

TITLES = {
    "diffullama": "DiffuLLaMA: shift, attention opens",
    "dream": "Dream: shift, weights by context",
    "sdar": "SDAR: blocks of 4, no shift",
    "fastdllm_v2": "Fast-dLLM v2: blocks of 32, shift",
    "scratch": "Dream's objective from random weights",
}


class Mean(NamedTuple):
    """A mean over rows, per token, with Student's 95% interval."""

    value: float
    low: float
    high: float

    def shown(self, sign: str = "") -> str:
        return f"{self.value:{sign}.2f} [{self.low:{sign}.2f}, {self.high:{sign}.2f}]"


def per_token(row_nats: Sequence[float], tokens: int) -> Mean:
    """Nats per token of rows that all have this many tokens."""
    rows = np.asarray(row_nats) / tokens
    half = stats.t.ppf(0.975, len(rows) - 1) * rows.std(ddof=1) / math.sqrt(len(rows))
    return Mean(rows.mean(), rows.mean() - half, rows.mean() + half)


def bits_per_byte(row_nats: Sequence[float], size: int) -> float:
    """Bits per byte of rows whose text has `size` bytes in all."""
    return float(np.sum(row_nats)) / math.log(2) / size


def starts_table(whole: dict[str, Any]) -> list[str]:
    """Nats of masked tokens before any training, ours and those that were known."""
    lines = ["| attention | shift | here | another code, one draw |", "|---|---|---|---|"]
    for row in whole["starts"]:
        shift = "yes" if row["shift"] else "no"
        lines.append(f"| {row['attention']} | {shift} | {row['nats']:.2f} ± {row['error']:.2f} | {row['known']:.2f} |")
    return lines


def table(whole: dict[str, Any]) -> list[str]:
    """The bound of each recipe at each point, and how far the last one is from the autoregressive model."""
    tokens, size = whole["held_out"]["tokens_per_row"], whole["held_out"]["bytes"]
    points = next(iter(whole["points"].values()))
    heads = ["recipe", *(f"after {point['tokens']:,}" for point in points), "above the AR model", "bits per byte"]
    heads[1], ar = "before", np.array(whole["ar_row_nats"])
    lines = [f"| {' | '.join([*heads, 'FLOPs a token'])} |", "|---" * (len(heads) + 1) + "|"]
    for name, own in whole["points"].items():
        last = own[-1]
        cells = [TITLES[name], *(f"{per_token(point['row_nats'], tokens).value:.2f}" for point in own)]
        cells.append(per_token(np.array(last["row_nats"]) - ar, tokens).shown("+"))
        cells += [f"{bits_per_byte(last['row_nats'], size):.2f}", f"{last['flops'] / last['tokens']:.2g}"]
        lines.append(f"| {' | '.join(cells)} |")
    alone = f"{per_token(ar, tokens).value:.2f}"
    blank = " |" * (len(points) - 1)
    return [*lines, f"| the AR model itself | {alone} |{blank} | {bits_per_byte(ar.tolist(), size):.2f} | |"]


def differences(whole: dict[str, Any], reference: str) -> dict[str, Mean]:
    """The last bound of each other recipe minus that of the reference, on the same rows."""
    last = {name: np.array(own[-1]["row_nats"]) for name, own in whole["points"].items()}
    tokens = whole["held_out"]["tokens_per_row"]
    return {name: per_token(rows - last[reference], tokens) for name, rows in last.items() if name != reference}


def decoding_table(whole: dict[str, Any]) -> list[str]:
    """Tokens per network evaluation and per second, and nats under the autoregressive model, of each way to decode."""
    lines = ["| model | tokens per evaluation | tokens per second | nats under the AR model | entropy |"]
    lines.append("|---|---|---|---|---|")
    drawn = whole["decoded_tokens"]
    for name, rows in whole["decoding"].items():
        for row in rows:
            title = TITLES[name].partition(":")[0] if name in TITLES else "the AR model, greedy"
            nats = f"{row['judge_nats']:.2f} ± {row['judge_error']:.2f}"
            cells = [title, f"{drawn / row['evaluations']:.1f}", f"{row['tokens_per_second']:.1f}", nats]
            lines.append(f"| {' | '.join([*cells, format(row['entropy'], '.2f')])} |")
    return lines


def figure(whole: dict[str, Any]) -> bytes:
    """The bound against tokens seen, as PNG. The line is the autoregressive model."""
    import altair as alt

    from mdlm_jax.report.figures.render import files, specification
    from mdlm_jax.style import PALETTE

    tokens = whole["held_out"]["tokens_per_row"]
    shown = [
        {"recipe": TITLES[name], "tokens": point["tokens"]} | per_token(point["row_nats"], tokens)._asdict()
        for name, own in whole["points"].items()
        for point in own
    ]
    colour = alt.Scale(domain=list(TITLES.values()), range=PALETTE[: len(TITLES)])
    shared = alt.Chart(alt.Data(values=shown)).encode(
        alt.X("tokens:Q", title="tokens seen in training"),
        alt.Color("recipe:N", scale=colour, title=None),
    )
    lines = shared.mark_line(point=True).encode(
        alt.Y("value:Q", title="held-out nats per token, upper bound", scale=alt.Scale(zero=False))
    )
    ar = alt.Chart(alt.Data(values=[{"nats": per_token(whole["ar_row_nats"], tokens).value}]))
    rule = ar.mark_rule(strokeDash=[5, 3], color="#444").encode(alt.Y("nats:Q"))
    text = ar.mark_text(align="left", dx=4, dy=-6, color="#444").encode(
        alt.Y("nats:Q"), x=alt.value(0), text=alt.value("the AR model, exact")
    )
    chart = alt.layer(lines, rule, text).properties(width=420, height=300)
    return files(specification(chart))[1]
