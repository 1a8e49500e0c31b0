"""A train step of every objective at V = 32,000 and L = 1,024: time relative to `masked`, memory, 20 trained steps.

    python benchmarks/objectives.py [NAME ..]

Steps of an objective and of `masked` alternate in one process, so that both run under equal load; the ratio is the
median over turns. `masked` gets the same network and the same number of views as the objective, including conditioning
on the noise level (adaLN). A view of blocks has 2 L positions, L of them with a loss. Each loss is of one row at one
random time, which is noisy, so the table shows means of five steps.
"""

import json
import pathlib
import statistics
import sys
import time
from typing import NamedTuple

from mdlm_jax.malloc import ask_for_huge_pages, set_up_malloc

if __name__ == "__main__":
    ask_for_huge_pages()
    set_up_malloc()

import jax
import jax.numpy as jnp
import numpy as np

from mdlm_jax.data import Batch, Example
from mdlm_jax.files import write_whole
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.models.transformer import Execution, transformer
from mdlm_jax.objectives import OBJECTIVES, Objective
from mdlm_jax.objectives.block import block
from mdlm_jax.processes import PROCESSES
from mdlm_jax.schedules import linear
from mdlm_jax.training.optimizer import hyperparameters, make_optimizer
from mdlm_jax.training.step import StepOptions, initial_state, make_train_step

V, LENGTH, BATCH, BLOCK, STEPS = 32000, 1024, 1, 16, 20
SMDM_6M = Architecture(V, layers=6, width=256, heads=4, key_value_heads=4, mlp_width=1024)


class Case(NamedTuple):
    objective: Objective
    views: int  # that the masked step has beside it
    limit: float  # of the ratio


def cases() -> dict[str, Case]:
    O, schedule = OBJECTIVES, linear()
    absorbing, uniform = (PROCESSES[name](V, schedule) for name in ("absorbing", "uniform"))
    hybrid = PROCESSES["hybrid"](V, schedule, 0.5)
    same = {
        "ar": O["ar"](V),
        "any_order": O["any_order"](V),
        "any_order_causal": O["any_order_causal"](V),
        "masked_lm": O["masked_lm"](V),
        "masked, T = 1000": O["masked"](V, schedule, num_steps=1000),
        "masked_plain": O["masked_plain"](V, schedule),
        "d3pm-absorbing": O["d3pm"](absorbing, 1000, 0.0),
        "d3pm-uniform": O["d3pm"](uniform, 1000, 0.0),
        "d3pm-hybrid": O["d3pm"](hybrid, 1000, 0.01),
        "sedd-absorbing, scaled": O["sedd"](absorbing, "scaled"),
        "sedd-absorbing, denoiser": O["sedd"](absorbing, "denoiser"),
        "sedd-uniform, raw": O["sedd"](uniform, "raw"),
        "gidd": O["gidd"](V, schedule, 0.2, 1.0),
        "udlm": O["udlm"](V, schedule),
        "duo": O["duo"](V),
        "csm, denoising": O["csm"](V, schedule, "denoising"),
        "gaussian": O["gaussian"](V),
    }
    two_views = {
        "masked, complementary": O["masked"](V, schedule, complementary=True),
        "genmd4": O["genmd4"](V),
        "tauldr-absorbing": O["tauldr"](absorbing),
        "tauldr-uniform": O["tauldr"](uniform),
        "csm, implicit": O["csm"](V, schedule, "implicit"),
    }
    blocks = {f"{name}, blocks": block(same[name], BLOCK, LENGTH) for name in ("sedd-uniform, raw", "gidd")}
    blocks |= {"masked, blocks": block(O["masked"](V, schedule), BLOCK, LENGTH)}
    found = {name: Case(objective, 1, 1.15) for name, objective in same.items()}
    found |= {name: Case(objective, 2, 1.15) for name, objective in two_views.items()}
    return found | {name: Case(objective, 1, 2.0) for name, objective in blocks.items()}


class Trained(NamedTuple):
    step: object  # () -> loss
    temporary_bytes: int


def trained(objective: Objective, timed: bool) -> Trained:
    """A compiled step of `objective` on one batch of random tokens."""
    architecture = SMDM_6M._replace(time_conditioning=timed, input_width=objective.inputs)
    tokens = np.random.default_rng(0).zipf(1.3, size=(BATCH, LENGTH)).clip(max=V).astype(np.int32) - 1
    return compiled_step(objective, architecture, "blocked", tokens)


def compiled_step(objective: Objective, architecture: Architecture, attention: str, tokens: np.ndarray) -> Trained:
    """A compiled step of `objective` on the rows of `tokens`."""
    model = transformer(architecture, Execution(use_segments=False, attention=attention))
    optimizer = make_optimizer(
        decay="constant", final=1.0, beta_1=0.9, beta_2=0.95, epsilon=1e-8, clip=1.0, decay_everything=False
    )
    state = initial_state(model, objective, optimizer, 0.0, np.uint32(0), hyperparameters(1e-3, 0.0, 0, STEPS))
    example = Example(tokens, np.ones_like(tokens), np.zeros(tokens.shape, bool))
    batch = jax.tree.map(jnp.asarray, Batch(example, np.arange(len(tokens), dtype=np.int32)))
    train_step = make_train_step(model, objective, optimizer, StepOptions(len(tokens), loss_chunk=128))
    compiled = jax.jit(train_step, donate_argnums=0).lower(state, batch).compile()

    def step() -> float:
        nonlocal state
        state, metrics = compiled(state, batch)
        return float(metrics["loss"])

    return Trained(step, compiled.memory_analysis().temp_size_in_bytes)


def twice(objective: Objective, views: int) -> Objective:
    """`views` independent views of each example."""

    def view(objective_params, key, example, u):
        each = [objective.view(objective_params, key, example, u) for key in jax.random.split(key, views)]
        return jax.tree.map(lambda *fields: jnp.concatenate(fields), *each)

    return objective._replace(view=view, views=views) if views > 1 else objective


def measured(name: str, case: Case, turns: int) -> dict:
    """Times of `turns` steps in alternation with `masked`, and the change of the loss over 20 steps."""
    ours = trained(case.objective, case.objective.timed)
    beside = trained(twice(OBJECTIVES["masked"](V, linear()), case.views), case.objective.timed)
    losses, pairs = [], []
    for turn in range(turns):
        seconds = []
        for one in (ours, beside) if turn % 2 else (beside, ours):
            start = time.perf_counter()
            loss = one.step()
            seconds.append(time.perf_counter() - start)
            if one is ours:
                losses.append(loss)
        pairs.append(seconds if turn % 2 else seconds[::-1])
    pairs = pairs[1:]  # the first turn warms up
    return {
        "ratio": statistics.median(a / b for a, b in pairs),
        "limit": case.limit,
        "milliseconds": 1e3 * statistics.median(a for a, _ in pairs),
        "masked_milliseconds": 1e3 * statistics.median(b for _, b in pairs),
        "temporary_megabytes": ours.temporary_bytes / 1e6,
        "masked_temporary_megabytes": beside.temporary_bytes / 1e6,
        "first_losses": statistics.mean(losses[:5]),
        "last_losses": statistics.mean(losses[-5:]),
        "views": case.objective.views,
        "noise_levels_told": case.objective.timed,
        "pairs": pairs,
    }


def main(names: list[str]) -> None:
    found = {}
    for name, case in cases().items():
        if names and name not in names:
            continue
        found[name] = row = measured(name, case, STEPS)
        print(
            f"{name:28} {row['ratio']:.2f} (limit {case.limit}) {row['milliseconds']:.0f} ms "
            f"{row['temporary_megabytes']:.0f} MB, loss {row['first_losses']:.3g} -> {row['last_losses']:.3g}",
            flush=True,
        )
        jax.clear_caches()
    if names:
        return
    lines = [
        "| objective | step, ms | `masked`, ms | ratio | limit | temporary memory, MB | `masked`'s, MB "
        "| loss, first 5 of 20 steps -> last 5 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in found.items():
        lines.append(
            f"| {name} | {row['milliseconds']:,.0f} | {row['masked_milliseconds']:,.0f} | {row['ratio']:.2f} "
            f"| {row['limit']} | {row['temporary_megabytes']:,.0f} | {row['masked_temporary_megabytes']:,.0f} "
            f"| {row['first_losses']:.3g} -> {row['last_losses']:.3g} |"
        )
    folder = pathlib.Path(__file__).parent / "results"
    setting = {"V": V, "L": LENGTH, "B": BATCH, "block": BLOCK, "jax": jax.__version__}
    write_whole(folder / "objectives.json", json.dumps(setting | {"objectives": found}, indent=1) + "\n")
    write_whole(folder / "objectives.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
