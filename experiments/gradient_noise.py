"""How much of the gradient's variance is noise of the objective, and how much does a density of noise levels save?

    python experiments/gradient_noise.py

Each objective trains 4 thousand parameters on bytes of the Python standard library, with a learned density where it has
one. Then 1,024 rows give two gradients each, with their own noise: what the two differ by is noise, the rest of the
variance is that of the rows. All densities are measured on the same network. The expected gradient is the same under
all of them but the clipped one, which leaves out noise levels. Noise levels are drawn independently here; in training
they are stratified over a batch. Writes
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
from mdlm_jax.objectives.densities import Learned, parse_density, with_bins  # noqa: E402
from mdlm_jax.report.figures import charts, render  # noqa: E402
from mdlm_jax.style import PALETTE  # noqa: E402
from mdlm_jax.training.levels import bins_of  # noqa: E402
from mdlm_jax.training.loss import look, nats  # noqa: E402
from mdlm_jax.training.step import make_train_step  # noqa: E402

LEARNED = "learned:floor=0.2,rate=0.01"
FIXED = {"uniform": "", "bell": "bell:mean=0.5,width=0.2,floor=0.1", "clipped": "clipped:low=0.3,high=0.8"}
# objective -> (keys, densities)
OBJECTIVES = {
    "ar": ({"optim.lr": 2e-2}, ("",)),
    "any_order": ({"optim.lr": 8e-3}, (*FIXED, "learned")),
    "masked": ({"optim.lr": 8e-3}, (*FIXED, "learned")),
    "sedd": ({"objective.process": "uniform", "optim.lr": 8e-3}, (*FIXED, "learned")),
    "gidd": ({"optim.lr": 8e-3}, (*FIXED, "learned")),
    "masked, blocks of 8": ({"objective.block_size": 8, "optim.lr": 8e-3}, tuple(FIXED)),
}
STEPS, SEEDS, ROWS, CHUNK = 1000, 2, 1024, 64
RESULTS = root / "experiments" / "results" / "gradient_noise.json"
FIGURE = root / "docs" / "images" / "gradient_noise.png"


def measured(name: str) -> list[dict]:
    """One entry for each density: the variance of a row's gradient, that of noise and the squared norm, by seed."""
    keys, densities = OBJECTIVES[name]
    keys = {"objective.name": name.split(",")[0], "steps": STEPS, "budget": 0.0, **keys}
    config = override(quickstart.get_config(), [f"--config.{key}={value}" for key, value in keys.items()])
    tokens = build(config).plan.architecture.vocab_size
    with_density = lambda text: override(config, [f"--config.objective.density={text}"] * bool(text))  # noqa: E731
    plain = {one: objective_of(with_density(FIXED.get(one, "")), tokens) for one in densities}
    built = build(with_density(LEARNED) if "learned" in densities else config)
    step = jax.jit(make_train_step(built.model, built.objective, built.optimizer, built.options))
    begin = jax.jit(built.make_state)
    gradients = jax.jit(partial(_gradients, built, plain), static_argnames="density")
    found: dict[str, list[list[float]]] = {}  # by density, one of each seed
    for seed in range(SEEDS):
        state = begin(jnp.uint32(seed), *built.initial[1:])
        for number in range(STEPS):
            state, _ = step(state, jax.tree.map(jnp.asarray, built.data.batch(number)))
        later = [built.data.batch(STEPS + number).example for number in range(ROWS // built.options.batch_size)]
        rows = jax.tree.map(lambda *parts: jnp.concatenate(parts), *later)
        for density in densities:
            found.setdefault(density, []).append([float(value) for value in gradients(state, rows, density=density)])
    parts = ("variance", "of_noise", "squared_norm")
    return [
        {"objective": name, "density": density, **dict(zip(parts, map(list, zip(*of_seeds, strict=True)), strict=True))}
        for density, of_seeds in found.items()
    ]


def shares(entries: list[dict]) -> list[dict]:
    """The variances of each entry over the squared norm of the expected gradient, by their means over seeds.

    Densities that cover all noise levels share the norm under uniform levels: the estimate of a noisier one is worse.
    """
    means = [{key: float(np.mean(one[key])) for key in ("variance", "of_noise", "squared_norm")} for one in entries]
    whole = {
        one["objective"]: mean["squared_norm"]
        for one, mean in zip(entries, means, strict=True)
        if one["density"] in ("", "uniform")
    }
    found = []
    for one, mean in zip(entries, means, strict=True):
        norm = mean["squared_norm"] if one["density"] == "clipped" else whole[one["objective"]]
        scale, noise = mean["variance"] / norm, mean["of_noise"] / norm
        names = {"objective": one["objective"], "density": one["density"]}
        found.append({**names, "scale": scale, "of_rows": scale - noise, "noise_share": noise / scale})
    return found


def _gradients(built, plain, state, rows, density: str):
    """(variance of a row's gradient, the part of it that is noise, squared norm of the expected gradient)."""
    objective = plain[density]
    if density == "learned":
        learned = parse_density(LEARNED)
        assert isinstance(learned, Learned)
        objective = with_bins(objective, bins_of(state.levels, learned))

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
    """Writes the figure of the stored entries."""
    entries = shares(entries)
    names = [", ".join(filter(None, (one["objective"], one["density"]))) for one in entries]
    rows = [
        {"case": case, "what": what, "rows": value}
        for case, one in zip(names, entries, strict=True)
        for what, value in (("rows alone", one["of_rows"]), ("with noise", one["scale"]))
    ]
    x = charts.x("rows", "variance of a row's gradient / squared norm", [r["rows"] for r in rows], charts.PLAIN)
    y = alt.Y("case:N", sort=names, title=None, axis=alt.Axis(labelLimit=250))
    color = alt.Color("what:N", scale=alt.Scale(domain=["rows alone", "with noise"], range=PALETTE[:2]), title="")
    base = alt.Chart(charts.data(rows)).encode(x=x, y=y)
    lines = base.mark_line(color="#999999").encode(detail="case:N")
    points = base.mark_point(filled=True, size=90, opacity=1).encode(color=color)
    chart = charts.layered([lines, points], width=520, height=26 * len(names))
    _, png = render.files(render.specification(charts.panels([chart], "Noise of the gradient", "rows of 32 bytes")))
    FIGURE.write_bytes(png)


if __name__ == "__main__":
    kept = [entry for name in OBJECTIVES for entry in measured(name)]
    stored = {"command": "python experiments/gradient_noise.py", "steps": STEPS, "seeds": SEEDS, "rows": ROWS}
    write_whole(RESULTS, json.dumps(stored | {"measured": kept}, indent=1) + "\n")
    draw(kept)
    for entry in shares(kept):
        print(entry)
