"""How much of the gradient's variance is noise of the objective, and how much does a density of noise levels save?

    python experiments/gradient_noise.py

Each objective trains 4 thousand parameters on bytes of the Python standard library, with a learned density.
Then 1,024 rows give two gradients each, with their own noise: what the two differ by is noise, the rest of the variance
is that of the rows. All densities are measured on the same network, where the expected gradient is the same. Noise
levels are drawn independently here; in training they are stratified over a batch. Writes
experiments/results/gradient_noise.json and docs/images/gradient_noise.png. Two seeds; some minutes on one core.
"""

import json
import pathlib
import sys
from functools import partial

import altair as alt
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

root = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(root))

from mdlm_jax.build import build  # noqa: E402
from mdlm_jax.build.objective import objective_of  # noqa: E402
from mdlm_jax.config import override  # noqa: E402
from mdlm_jax.configs import quickstart  # noqa: E402
from mdlm_jax.files import write_whole  # noqa: E402
from mdlm_jax.objectives.densities import Learned, parse_density, with_bins, with_density  # noqa: E402
from mdlm_jax.report.figures import charts, render  # noqa: E402
from mdlm_jax.style import PALETTE  # noqa: E402
from mdlm_jax.training.levels import bins_of  # noqa: E402
from mdlm_jax.training.loss import look, nats  # noqa: E402
from mdlm_jax.training.step import make_train_step  # noqa: E402

# objective -> (keys, learning rate, whether it has a noise level to draw)
OBJECTIVES = {
    "ar": ({}, 2e-2, False),
    "any_order": ({}, 8e-3, True),
    "masked": ({}, 8e-3, True),
    "sedd, uniform": ({"objective.name": "sedd", "objective.process": "uniform"}, 8e-3, True),
    "gidd": ({}, 8e-3, True),
}
LEARNED, BELL = "learned:floor=0.2,rate=0.01", "bell:mean=0.5,width=0.2,floor=0.1"
STEPS, SEEDS, ROWS, CHUNK = 1000, 2, 1024, 64
RESULTS = root / "experiments" / "results" / "gradient_noise.json"
FIGURE = root / "docs" / "images" / "gradient_noise.png"


def measured(name: str) -> list[dict]:
    """One entry for each density: means over seeds of the variances of a row's gradient and their shares."""
    keys, rate, has_levels = OBJECTIVES[name]
    keys = {"objective.name": name, "optim.lr": rate, "steps": STEPS, "budget": 0.0} | keys
    config = override(quickstart.get_config(), [f"--config.{key}={value}" for key, value in keys.items()])
    plain = objective_of(config, build(config).plan.architecture.vocab_size)
    if has_levels:
        config = override(config, [f"--config.objective.density={LEARNED}"])
    built = build(config)
    step = jax.jit(make_train_step(built.model, built.objective, built.optimizer, built.options))
    begin = jax.jit(built.make_state)
    gradients = jax.jit(partial(_gradients, built, plain), static_argnames="density")
    found: dict[str, list[list[float]]] = {}
    for seed in range(SEEDS):
        state = begin(jnp.uint32(seed), *built.initial[1:])
        for number in range(STEPS):
            state, _ = step(state, jax.tree.map(jnp.asarray, built.data.batch(number)))
        later = [built.data.batch(STEPS + number).example for number in range(ROWS // built.options.batch_size)]
        rows = jax.tree.map(lambda *parts: jnp.concatenate(parts), *later)
        for density in ("uniform", "bell", "learned") if has_levels else ("uniform",):
            found.setdefault(density, []).append([float(value) for value in gradients(state, rows, density=density)])
    entries = []
    for density, of_seeds in found.items():
        total, noise, squared_norm = np.mean(of_seeds, axis=0)
        ratios = [one[0] / one[2] for one in of_seeds]
        entries.append(
            {"objective": name, "density": density if has_levels else "", "variance": total, "of_noise": noise}
            | {"squared_norm": squared_norm, "noise_scale": total / squared_norm, "noise_share": noise / total}
            | {"noise_scales_of_seeds": ratios}
        )
    return entries


def _gradients(built, plain, state, rows, density: str):
    """(variance of a row's gradient, the part of it that is noise, squared norm of the expected gradient)."""
    objective = plain
    if density == "bell":
        objective = with_density(plain, parse_density(BELL))
    elif density == "learned":
        learned = parse_density(LEARNED)
        assert isinstance(learned, Learned)
        objective = with_bins(plain, bins_of(state.levels, learned))

    def gradient(row, key):
        def loss(params):
            one = jax.tree.map(lambda field: field[None], row)
            key_view, key_u = jax.random.split(key)
            view = look(objective, state.objective_params, key_view[None], one, jax.random.uniform(key_u, (1,)))
            total, _ = nats(built.model, objective, params, state.objective_params, view, built.options.loss_chunk)
            return total / objective.views / row.tokens.shape[-1]

        return ravel_pytree(jax.grad(loss)(state.params))[0]

    def chunk(carry, part):
        some, keys = part
        one, other = (jax.vmap(gradient)(some, keys[:, draw]) for draw in range(2))
        sums = one.sum(axis=0) + other.sum(axis=0), ((one**2).sum() + (other**2).sum()) / 2, ((one - other) ** 2).sum()
        return jax.tree.map(jnp.add, carry, (*sums, (one * other).sum())), None

    keys = jax.random.split(jax.random.key(1), (ROWS, 2))
    parts = jax.tree.map(lambda field: field.reshape(-1, CHUNK, *field.shape[1:]), (rows, keys))
    size = ravel_pytree(state.params)[0].size
    zero = jnp.zeros(())
    sums = jax.lax.scan(chunk, (jnp.zeros(size), zero, zero, zero), parts)[0]
    both, squares, differences, products = sums
    # products of gradients of different rows: without those of a row with itself
    own = 2 * squares + 2 * products
    squared_norm = ((both**2).sum() - own) / (4 * ROWS * (ROWS - 1))
    return squares / ROWS - squared_norm, differences / (2 * ROWS), squared_norm


def draw(entries: list[dict]) -> None:
    names = [f"{one['objective']}{', ' * bool(one['density'])}{one['density']}" for one in entries]
    rows = [
        {"case": case, "what": what, "rows": value / one["squared_norm"]}
        for case, one in zip(names, entries, strict=True)
        for what, value in (("rows alone", one["variance"] - one["of_noise"]), ("with noise", one["variance"]))
    ]
    x = charts.x("rows", "variance of a row's gradient / squared norm", [r["rows"] for r in rows], charts.PLAIN)
    y = alt.Y("case:N", sort=names, title=None, axis=alt.Axis(labelLimit=250))
    color = alt.Color("what:N", scale=alt.Scale(domain=["rows alone", "with noise"], range=PALETTE[:2]), title="")
    points = alt.Chart(charts.data(rows)).mark_point(filled=True, size=90, opacity=1).encode(x=x, y=y, color=color)
    lines = alt.Chart(charts.data(rows)).mark_line(color="#999999").encode(x=x, y=y, detail="case:N")
    chart = alt.layer(lines, points).properties(width=520, height=26 * len(names))
    _, png = render.files(render.specification(charts.panels([chart], "Noise of the gradient", "one row of 32 bytes")))
    FIGURE.write_bytes(png)


if __name__ == "__main__":
    kept = [entry for name in OBJECTIVES for entry in measured(name)]
    stored = {"command": "python experiments/gradient_noise.py", "steps": STEPS, "seeds": SEEDS, "rows": ROWS}
    write_whole(RESULTS, json.dumps(stored | {"measured": kept}, indent=1) + "\n")
    draw(kept)
    for entry in kept:
        print({key: value for key, value in entry.items() if key != "noise_scales_of_seeds"})
