"""Does the best learning rate stay where it was as a network grows 16 times, first in width, then in depth?

    python experiments/transfer.py [FOLDER]

Three shapes, three parametrizations, `ar` on bytes of the Python standard library, eight rates each, equal steps. The
smallest shape is the base, where the three parametrizations are one network, which trains once. Writes
experiments/results/transfer.json and docs/images/transfer.png. Finished runs are not repeated.
"""

import json
import pathlib
import sys
from collections.abc import Sequence

import altair as alt
import numpy as np
from ml_collections import ConfigDict

root = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(root))

from mdlm_jax.configs import quickstart  # noqa: E402
from mdlm_jax.files import write_whole  # noqa: E402
from mdlm_jax.laws import lowest_point  # noqa: E402
from mdlm_jax.report.figures import charts, render  # noqa: E402
from mdlm_jax.runs.loop import train_all  # noqa: E402
from mdlm_jax.style import PALETTE  # noqa: E402

OBJECTIVES = ("ar",)
PARAMETRIZATIONS = ("standard", "mup", "completep")
SHAPES = ((16, 2), (32, 2), (32, 8))  # width, layers: 1, 4 and 16 times the parameters of blocks
RATES = tuple(0.001 * 2**power for power in range(8))
STEPS = 300
RESULTS = root / "experiments" / "results" / "transfer.json"
FIGURE = root / "docs" / "images" / "transfer.png"


def config_of(objective: str, parametrization: str, shape: tuple[int, int], rate: float) -> ConfigDict:
    config = quickstart.get_config()
    config.objective.name, config.budget, config.steps = objective, 0.0, STEPS
    config.model.size, config.model.parametrization = "", parametrization
    config.model.width, config.model.layers = shape
    config.model.heads = config.model.key_value_heads = shape[0] // 8
    config.model.mlp_width = 4 * shape[0]
    if parametrization != "standard":
        config.model.base_width, config.model.base_head_width = SHAPES[0][0], 8
    config.optim.lr = rate
    config.eval.draws = 8
    return config


def optimum(losses: Sequence[float]) -> float | None:
    """The rate at the minimum of the parabola through the lowest loss and its neighbours; None at an end."""
    finite = np.array([np.inf if loss is None else loss for loss in losses])
    found = lowest_point(np.log(RATES), finite)
    inside = found.interior and np.isfinite(finite[finite.argmin() + 1])  # not beside a rate at which training fails
    return float(np.exp(found.at)) if inside else None


def trained(folder: pathlib.Path) -> dict:
    """From objective, parametrization and shape to losses by rate; a run that failed has None."""
    curves: list[dict] = []
    for objective in OBJECTIVES:
        for shape in SHAPES:
            for name in PARAMETRIZATIONS if shape != SHAPES[0] else PARAMETRIZATIONS[:1]:
                folders = [folder / f"{objective}-{name}-{shape[0]}x{shape[1]}-{rate:g}" for rate in RATES]
                results = train_all([config_of(objective, name, shape, rate) for rate in RATES], folders)
                losses = [None if result is None or result.loss is None else result.loss for result in results]
                names = [name] if shape != SHAPES[0] else PARAMETRIZATIONS
                curves += [
                    {"objective": objective, "parametrization": one, "width": shape[0], "layers": shape[1]}
                    | {"losses": losses, "optimum": optimum(losses)}
                    for one in names
                ]
    return {"rates": RATES, "steps": STEPS, "curves": curves, "shifts": shifts(curves)}


def shifts(curves: list[dict]) -> list[dict]:
    """Of each objective and parametrization the largest best rate over the smallest; None where one is at an end."""
    found = []
    for objective in OBJECTIVES:
        for name in PARAMETRIZATIONS:
            best = [c["optimum"] for c in curves if (c["objective"], c["parametrization"]) == (objective, name)]
            factor = None if None in best else max(best) / min(best)
            found.append({"objective": objective, "parametrization": name, "factor": factor})
    return found


def panel(found: dict, objective: str, name: str, legend: bool):
    curves = [c for c in found["curves"] if (c["objective"], c["parametrization"]) == (objective, name)]
    points = [
        {"shape": f"{c['width']} x {c['layers']}", "rate": rate, "loss": loss}
        for c in curves
        for rate, loss in zip(found["rates"], c["losses"], strict=True)
        if loss is not None
    ]
    marks = [
        {"shape": f"{c['width']} x {c['layers']}", "rate": c["optimum"], "loss": min(filter(None, c["losses"]))}
        for c in curves
        if c["optimum"]
    ]
    everything = [loss for c in found["curves"] if c["objective"] == objective for loss in c["losses"] if loss]
    top = min(everything) + 1.8 * (np.median(everything) - min(everything))
    factor = next(s["factor"] for s in found["shifts"] if (s["objective"], s["parametrization"]) == (objective, name))
    names = [f"{width} x {layers}" for width, layers in SHAPES]
    colors = alt.Scale(domain=names, range=PALETTE[: len(names)])
    color = alt.Color("shape:N", scale=colors, title="width x layers", legend=alt.Legend() if legend else None)
    x = charts.x("rate", "learning rate of the base shape", RATES, charts.PLAIN, pixels=250)
    y = charts.y("loss", "validation loss (nats per byte)", [min(everything), top])
    lines = alt.Chart(charts.data(points)).mark_line(point=alt.OverlayMarkDef(size=25), clip=True)
    stars = alt.Chart(charts.data(marks)).mark_point(shape="diamond", size=140, filled=True, opacity=1, clip=True)
    told = "at an end" if factor is None else f"best rate moves by a factor of {factor:.2f}"
    layers = [one.encode(x=x, y=y, color=color) for one in (lines, stars)]
    return charts.layered(layers, width=250, height=220, title=f"{objective}, {name}: {told}")


def figure(found: dict) -> dict:
    shown = [panel(found, o, name, name == PARAMETRIZATIONS[-1]) for o in OBJECTIVES for name in PARAMETRIZATIONS]
    return charts.panels(shown, "Validation loss against the learning rate", "diamonds: minima of parabolas")


if __name__ == "__main__":
    kept = trained(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "runs/transfer"))
    write_whole(RESULTS, json.dumps(kept, indent=1) + "\n")
    FIGURE.write_bytes(render.files(render.specification(figure(kept)))[1])
    for shift in kept["shifts"]:
        print(shift)
