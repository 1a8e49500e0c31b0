"""`mdlm-jax check OBJECTIVE --parametrization`: activations against width and depth, as a table."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.table import Table

from mdlm_jax.build.described import objective_factory
from mdlm_jax.build.plan import plan
from mdlm_jax.config import load_config
from mdlm_jax.exact.coordinates import Shape, measure
from mdlm_jax.tables import show

FLAT = 1.2  # the largest over the smallest
PROMISED = {"standard": (), "mup": ("width",), "completep": ("width", "depth")}  # what an activation must not depend on
UNJUDGED = "logits"  # whose size at the start falls with the root of the width under both, as intended
# a narrow base shape, so that the embedding outweighs the first blocks and the smallest network is a large one
KEYS = {
    "data.source": "markov",
    "data.path": "vocab=16,concentration=0.3",
    "data.sequence_length": 16,
    "train.batch_size": 8,
    "eval.sequences": 8,
    "model.size": "",
    "model.layers": 4,
    "model.width": 64,
    "model.heads": 4,
    "model.key_value_heads": 4,
    "model.mlp_width": 256,
    "model.parametrization": "completep",
    "model.base_width": 1,
    "model.base_layers": 16,
    "optim.decay": "constant",
    "optim.warmup_share": 0,
    "optim.warmup_min": 0,
}
RATE, TIMED_RATE = 0.02, 0.001  # adaLN moves activations by 128 times its rate, the width of its input


class Row(NamedTuple):
    """One activation of one parametrization, as one side of the shape grows. Values are over the smallest shape's."""

    parametrization: str
    growth: str  # width | depth
    activation: str
    times: tuple[int, ...]  # the width or depth over the smallest
    sizes: tuple[float, ...]
    updates: tuple[float, ...]

    @property
    def spread(self) -> float:
        """The largest over the smallest size, or update if that varies more."""
        judged = [self.updates, *([self.sizes] if self.activation != UNJUDGED else [])]
        return max(max(values) / min(values) for values in judged)

    @property
    def holds(self) -> bool | None:
        """Whether it is flat; None where the parametrization does not promise it."""
        return self.spread <= FLAT if self.growth in PROMISED[self.parametrization] else None


def check_parametrization(
    objective: str,
    config: str,
    overrides: Sequence[str] = (),
    *,
    widths: tuple[int, ...] = (1, 2, 4, 8),
    depths: tuple[int, ...] = (1, 2, 4),
    steps: int = 4,
    seeds: int = 3,
    parametrizations: Sequence[str] = tuple(PROMISED),
) -> list[Row]:
    """Measures activations before and after a few steps on a Markov chain, with heads that grow with the width.

    Args:
        objective: The value of `objective.name`.
        config: A preset or file.
        overrides: `--config.key=value` each; they change the smallest shape, the base shape and what is trained on.
        widths: Widths over the smallest.
        depths: Depths over the smallest.
        steps: Steps of training.
        seeds: Runs of each shape.
        parametrizations: Which to compare. That over the width alone is measured over the width alone.

    Raises:
        UserError: The objective or a key is unknown, or a shape is impossible.
    """
    objective_factory(objective)
    given = [f"--config.{key}={value}" for key, value in {"objective.name": objective, **KEYS}.items()]
    timed = plan(load_config(config, [*given, *overrides])).architecture.time_conditioning
    rate = f"--config.optim.lr={TIMED_RATE if timed else RATE}"
    smallest = load_config(config, [*given, rate, *overrides])
    width, layers = smallest.model.width, smallest.model.layers
    measured: dict[Shape, Any] = {}

    def of_shape(shape: Shape):
        if shape not in measured:
            measured[shape] = measure(smallest, shape, steps, seeds)
        return measured[shape]

    rows = []
    for name in parametrizations:
        growths = {"width": [Shape(name, width * n, layers) for n in widths]}
        if name != "mup":
            growths["depth"] = [Shape(name, width, layers * n) for n in depths]
        for growth, shapes in growths.items():
            for found in zip(*map(of_shape, shapes), strict=True):
                sizes, updates = (
                    tuple(getattr(one, field) / getattr(found[0], field) for one in found)
                    for field in ("size", "update")
                )
                times = widths if growth == "width" else depths
                rows.append(Row(name, growth, found[0].activation, times, sizes, updates))
    return rows


def show_rows(objective: str, rows: list[Row]) -> None:
    """Prints the table."""
    print(f"{objective}: sizes and updates of activations over those of the smallest network")
    table = Table(box=None)
    for heading in ("parametrization", "grows", "activation", "by", "size", "update", "spread", "verdict"):
        table.add_column(heading, justify="right" if heading in ("size", "update", "spread") else "left")
    for row in rows:
        verdict = {True: "flat", False: "FAILS", None: "-"}[row.holds]
        values = [" ".join(f"{value:.2f}" for value in part) for part in (row.sizes, row.updates)]
        times = " ".join(map(str, row.times))
        table.add_row(*row[:3], times, *values, f"{row.spread:.2f}", verdict)
    show(table)


def as_json(objective: str, rows: list[Row]) -> dict[str, Any]:
    """The rows as they are stored."""
    listed = [row._asdict() | {"spread": row.spread, "holds": row.holds} for row in rows]
    return {"objective": objective, "flat": FLAT, "rows": listed}
