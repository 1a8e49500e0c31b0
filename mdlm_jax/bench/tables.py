"""The numbers of a suite as a Markdown table and a plot."""

import pathlib

STEP_COLUMNS = (
    "case",
    "ms",
    "tokens/s",
    "time relative to base",
    "in CPU time",
    "GFLOP",
    "floor, ms",
    "share of matmul",
    "MFU",
    "memory, MB",
    "compile, s",
)
MANY_COLUMNS = ("models", "devices", "ms", "tokens/s over one's", "in CPU time", "compile, s")
TORCH_COLUMNS = ("case", "PyTorch, ms", "PyTorch / ours", "in CPU time", "memory, MB", "our memory / its")


def table(found: dict) -> str:
    """The numbers as Markdown."""
    machine = found["machine"]
    rates = ", ".join(
        f"{dtype}: {rate['matmul'] / 1e9:,.0f} GFLOP/s of a matmul, {rate['copy'] / 1e9:,.1f} GB/s of a copy"
        for dtype, rate in found["rates"].items()
    )
    steps = [
        (
            label,
            f"{1e3 * row['seconds']:,.1f}",
            f"{row['tokens_per_second']:,.0f}",
            f"{row['times_the_base']:.2f}",
            f"{row['times_the_base_cpu']:.2f}",
            f"{row['flops'] / 1e9:,.2f}",
            f"{1e3 * row['floor_seconds']:,.1f}",
            f"{row['share_of_matmul']:.2f}",
            f"{row['mfu']:.1%}",
            f"{row['memory_bytes'] / 1e6:,.1f}",
            f"{row['compile_seconds']:.1f}",
        )
        for label, row in found["steps"].items()
    ]
    lines = [f"{machine['device']}, {machine['cores']} cores of {machine['cpu']}, jax {machine['jax']}. {rates}.", ""]
    lines += _rows(STEP_COLUMNS, steps)
    beside = [
        (
            label,
            f"{1e3 * row['torch']['seconds']:,.1f}",
            f"{row['torch']['torch_over_ours']:.2f}",
            f"{row['torch']['torch_over_ours_cpu']:.2f}",
            f"{row['torch']['memory_bytes'] / 1e6:,.1f}",
            f"{row['torch']['memory_over_torch']:.2f}",
        )
        for label, row in found["steps"].items()
        if "torch" in row
    ]
    if beside:
        lines += ["", *_rows(TORCH_COLUMNS, beside)]
    many = found["populations"] + found.get("over_devices", [])
    lines += ["", *_rows(MANY_COLUMNS, [_many(row) for row in many])]
    saved = found["checkpoint"]
    lines += [
        "",
        f"A checkpoint of {saved['bytes'] / 1e6:,.0f} MB keeps training waiting for "
        f"{1e3 * saved['stall_seconds']:,.0f} ms and is on disk after {1e3 * saved['saved_seconds']:,.0f} ms.",
    ]
    if "data_tokens_per_second" in found:
        lines += [f"Data: {found['data_tokens_per_second']:,.0f} tokens/s."]
    return "\n".join(lines + found["left_out"])


def _many(row: dict) -> tuple[str, ...]:
    return (
        str(row["members"]),
        str(row["devices"]),
        f"{1e3 * row['seconds']:,.1f}",
        f"{row['times_one']:.2f}",
        f"{row['times_one_cpu']:.2f}",
        f"{row['compile_seconds']:.1f}",
    )


def _rows(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]


def plot(found: dict, path: pathlib.Path) -> None:
    """Plots the step of each case beside its lower bound and, if measured, PyTorch's step."""
    from matplotlib.figure import Figure

    steps = found["steps"]
    figure = Figure(figsize=(7, 1 + 0.45 * len(steps)), layout="constrained")
    axes = figure.add_subplot()
    positions = range(len(steps))
    axes.barh(positions, [row["seconds"] for row in steps.values()], height=0.6, label="ours")
    axes.barh(positions, [row["floor_seconds"] for row in steps.values()], height=0.25, label="floor")
    measured = [(index, row["torch"]["seconds"]) for index, row in enumerate(steps.values()) if "torch" in row]
    if measured:
        at, seconds = zip(*measured, strict=True)
        axes.plot(seconds, at, "k|", markersize=14, label="PyTorch")
    axes.set(yticks=positions, yticklabels=list(steps), xlabel="seconds a step", title=found["machine"]["device"])
    axes.invert_yaxis()
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=150)
