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
    """The bound of each recipe before training and at the end of what it trained, and how far that is from AR."""
    tokens, size = whole["held_out"]["tokens_per_row"], whole["held_out"]["bytes"]
    heads = ["recipe", "before", "tokens seen", "FLOPs", "after", "above the AR model", "bits per byte"]
    lines, ar = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"], np.array(whole["ar_row_nats"])
    for name, own in whole["points"].items():
        first, last = own[0], own[-1]
        cells = [TITLES[name], f"{per_token(first['row_nats'], tokens).value:.2f}", f"{last['tokens']:,}"]
        if last["tokens"]:
            cells += [f"{last['flops']:.2g}", f"{per_token(last['row_nats'], tokens).value:.2f}"]
            cells.append(per_token(np.array(last["row_nats"]) - ar, tokens).shown("+"))
            cells.append(f"{bits_per_byte(last['row_nats'], size):.2f}")
        else:
            cells += [""] * 4
        lines.append(f"| {' | '.join(cells)} |")
    alone = f"{per_token(ar, tokens).value:.2f}"
    return [*lines, f"| the AR model itself | {alone} | | | | | {bits_per_byte(ar.tolist(), size):.2f} |"]


def differences(whole: dict[str, Any], reference: str) -> dict[str, Mean]:
    """The last bound of each other recipe that saw as many tokens minus that of the reference, on the same rows."""
    last, tokens = {name: own[-1] for name, own in whole["points"].items()}, whole["held_out"]["tokens_per_row"]
    same = {name: point for name, point in last.items() if point["tokens"] == last[reference]["tokens"]}
    rows = {name: np.array(point["row_nats"]) for name, point in same.items()}
    return {name: per_token(own - rows[reference], tokens) for name, own in rows.items() if name != reference}


def decoding_table(whole: dict[str, Any]) -> list[str]:
    """Tokens per network evaluation, nats under the autoregressive model and entropy, of each way to decode."""
    lines = ["| model | tokens per evaluation | nats under the AR model | entropy |", "|---|---|---|---|"]
    drawn = whole["decoded_tokens"]
    for name, rows in whole["decoding"].items():
        for row in rows:
            title = TITLES[name].partition(":")[0] if name in TITLES else "the AR model, greedy"
            nats = f"{row['judge_nats']:.2f} ± {row['judge_error']:.2f}"
            cells = [title, f"{drawn / row['evaluations']:.1f}", nats]
            lines.append(f"| {' | '.join([*cells, format(row['entropy'], '.2f')])} |")
    return lines


def figure(whole: dict[str, Any]) -> bytes:
    """How far the bound is above the autoregressive model on the same rows, against tokens seen, as PNG."""
    import altair as alt

    from mdlm_jax.report.figures.render import files, specification
    from mdlm_jax.style import PALETTE

    tokens, ar = whole["held_out"]["tokens_per_row"], np.array(whole["ar_row_nats"])
    shown = [
        # beside each other, so that intervals do not cover one another
        {"recipe": TITLES[name], "tokens": point["tokens"] + 60 * place}
        | per_token(np.array(point["row_nats"]) - ar, tokens)._asdict()
        for place, (name, own) in enumerate(whole["points"].items())
        for point in own
    ]
    colour = alt.Scale(domain=list(TITLES.values()), range=PALETTE[: len(TITLES)])
    shared = alt.Chart(alt.Data(values=shown)).encode(
        alt.X("tokens:Q", title="tokens seen in training"),
        alt.Color("recipe:N", scale=colour, title=None),
    )
    nats = alt.Y("value:Q", title="bound above the AR model, nats per token", scale=alt.Scale(domainMin=0))
    lines = shared.mark_line(point=True, strokeDash=[4, 3]).encode(nats)
    intervals = shared.mark_rule(strokeWidth=1.5).encode(alt.Y("low:Q"), alt.Y2("high:Q"))
    chart = alt.layer(lines, intervals).properties(width=420, height=300)
    return files(specification(chart))[1]
