"""An autoregressive model of 135M parameters continued as a diffusion model by four recipes, at a small equal budget.

    python experiments/conversion.py MODEL DATA [TOKENS]

MODEL is the folder that `mdlm-jax convert` makes of SmolLM2-135M-Instruct, DATA has train.txt and valid.txt, such as
WikiText-2's. Each recipe trains low-rank adapters on the same TOKENS tokens (default 5,120), in stages of 5,120 after
which its bound on the same held-out rows is measured; a network of the same size starts from random weights. Then the
converted models continue held-out text in several steps, and MODEL itself judges what they wrote. Finished stages are
not repeated, and a larger TOKENS continues where a smaller one ended. Writes results.json and curves.png into
experiments/results/conversion after every measurement.

Reference: DiffuLLaMA, arXiv 2410.17891; Dream, arXiv 2508.15487; SDAR, arXiv 2510.06303; Fast-dLLM v2, arXiv
2509.26328.
"""

import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

root = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(root))

FOLDER = pathlib.Path("runs/conversion")
RESULTS = root / "experiments" / "results" / "conversion"
RECIPES = ("diffullama", "dream", "sdar", "fastdllm_v2")
NAMES = (*RECIPES, "scratch")  # the last: Dream's objective, all weights, from random ones
LENGTH, BATCH = 256, 2
STAGE = 10  # steps from one measurement to the next; DiffuLLaMA's attention is open after the first stage
ROWS, DRAWS = 12, 2  # held-out rows, and noise draws of each
PROMPTS, GIVEN, NEW, STEPS = 4, 32, 32, (32, 8)  # of the decoding: rows, tokens given, tokens drawn, steps
# cross-entropy of 15% masked tokens of one text before any training, measured once with another network's code
KNOWN = {
    ("causal", True): 4.33,
    ("full", True): 6.21,
    ("full", False): 8.05,
    ("blocks of 4", False): 6.84,
    ("blocks of 32", True): 5.75,
}
KNOWN_TOKENS, KNOWN_DRAWS, RATE = 512, 8, 0.15


class Held(NamedTuple):
    """The held-out rows."""

    rows: Any  # Example [ROWS, LENGTH], whose first tokens are given
    tokens: int  # with a loss, in a row
    bytes: int  # of their text, in all rows


def config_of(name: str, model: pathlib.Path, data: pathlib.Path, steps: int) -> ConfigDict:
    """The config of a run of a recipe, or of the network from random weights."""
    from mdlm_jax.runs.recipes import recipe_config

    scratch = name == "scratch"
    values = {
        "data.source": "text",
        "data.path": data / "train.txt",
        "data.validation_path": data / "valid.txt",
        "data.sequence_length": LENGTH,
        "data.prompt_tokens": 1,
        "steps": steps,
        "optim.lr": 1e-3 if scratch else 2e-3,
        "optim.decay": "constant",
        "optim.warmup_min": 2,
        "train.batch_size": BATCH,
        "train.microbatches": 2 if name == "fastdllm_v2" else 1,  # its views are four times as long
        "train.scored_only": True,
        "train.checkpoint_every": 0,
        "train.log_every": 1,
        "eval.sequences": 2,  # the rows of all measurements are others
        "eval.draws": 2,
        "eval.batch_size": 2,
    }
    values |= {"start_from": ""} if scratch else {"model.lora_rank": 16, "model.lora_alpha": 32.0}
    if name == "diffullama":
        values["objective.anneal_steps"] = STAGE
    overrides = [f"--config.{key}={value}" for key, value in values.items()]
    return recipe_config(model, "dream" if scratch else name, overrides)


def held_out(model: pathlib.Path, data: pathlib.Path) -> Held:
    """The first rows of the validation text."""
    from mdlm_jax.runs.held_out import DataOptions, open_held_out
    from mdlm_jax.runs.restore import open_run

    run = open_run(model)
    run.config.data.update({"extra_token": False, "prompt_tokens": 1, "sequence_length": LENGTH})
    options = DataOptions(str(data / "train.txt"), "text", str(data / "valid.txt"))
    rows = open_held_out(run, model, ROWS, options).rows
    size = sum(len(run.tokenizer.decode(row[1:]).encode()) for row in np.asarray(rows.tokens))
    return Held(rows, LENGTH - 1, size)


def row_bounds(model: Any, objective: Any, params: Any, rows: Any, draws: int = DRAWS) -> list[float]:
    """Nats of each row by what the objective reports: noise levels are stratified over all rows and draws."""
    from mdlm_jax.evaluation.likelihood import row_nats
    from mdlm_jax.noise import bit_reversed

    reported = objective.evaluate or objective
    views = np.arange(len(rows.tokens) * draws)
    u = (bit_reversed(len(views)) + 0.5) / len(views)
    options = {"batch_size": 2, "chunk": 128, "scored_only": True}
    found = row_nats(model, reported, params, (), rows, views // draws, noise=views, u=u, **options)
    return found.reshape(-1, draws).mean(axis=1).tolist()


def start_losses(run: Any, data: pathlib.Path) -> list[dict]:
    """Nats per masked token before any training, for each way of attention and prediction of KNOWN."""
    from mdlm_jax.data import Example
    from mdlm_jax.evaluation.likelihood import row_nats
    from mdlm_jax.objectives.base import causal, full
    from mdlm_jax.objectives.masked import masked_plain
    from mdlm_jax.objectives.shifted import shifted
    from mdlm_jax.sampling.blocks import causal_blocks
    from mdlm_jax.schedules import linear

    text = (data / "valid.txt").read_text(encoding="utf-8")[:20_000]
    tokens = run.tokenizer.encode(text)[None, :KNOWN_TOKENS]
    rows = Example(tokens, np.ones_like(tokens), np.arange(KNOWN_TOKENS)[None] < 1)
    masks = {"causal": causal, "full": full, "blocks of 4": causal_blocks(4), "blocks of 32": causal_blocks(32)}
    found = []
    for (attention, shift), known in KNOWN.items():
        objective = masked_plain(run.vocab_size, linear())
        objective = (shifted(objective) if shift else objective)._replace(mask=masks[attention])
        views, number = np.zeros(KNOWN_DRAWS, int), np.arange(KNOWN_DRAWS)
        options = {"noise": number, "u": np.full(KNOWN_DRAWS, RATE), "batch_size": 1, "chunk": 128}
        nats = row_nats(run.model, _per_scored(objective), run.params, (), rows, views, **options)
        error = nats.std(ddof=1) / np.sqrt(KNOWN_DRAWS)
        found.append({"attention": attention, "shift": shift, "known": known, "nats": nats.mean(), "error": error})
    return found


def _per_scored(objective: Any) -> Any:
    """The objective with the mean over the tokens of a view that have a loss."""

    def view(*given: Any) -> Any:
        seen = objective.view(*given)
        return seen._replace(weight=seen.weight / seen.weight.sum())

    return objective._replace(view=view)


def before(name: str, config: ConfigDict, donor: Any) -> tuple[Any, Any, Any]:
    """(network, objective, parameters) of a run before its first step."""
    from mdlm_jax.build.network import network
    from mdlm_jax.build.training import optimizer_of, state_of

    net = network(config, tokenizer=donor.tokenizer, vocab_size=donor.vocab_size)
    if name != "scratch":
        return net.model, net.objective, donor.params
    make_state, arguments = state_of(config, net, optimizer_of(config, net.plan.architecture))
    return net.model, net.objective, make_state(*arguments).params


def measured(name: str, steps: int, model: pathlib.Path, data: pathlib.Path, held: Held, donor: Any) -> dict:
    """One point of the curve of a recipe: trains up to it, if it is not trained so far."""
    from mdlm_jax.objectives.annealed import annealed
    from mdlm_jax.runs import loop
    from mdlm_jax.runs.execution import config_of_run
    from mdlm_jax.runs.restore import open_run

    config, folder = config_of(name, model, data, max(steps, STAGE)), FOLDER / name
    if not steps:
        network, objective, params = before(name, config, donor)
        flops = 0.0
    else:
        longer = folder.exists() and config_of_run(folder).steps < steps
        result = loop.train(config, folder, extension="hold" if longer else "")
        if result is None:
            sys.exit("ended by a signal; the next call resumes")
        run = open_run(folder)
        network, objective, params = run.model, run.objective, run.params
        flops = result.flops["exact"]
    point = {"tokens": steps * BATCH * LENGTH, "flops": flops}
    point["row_nats"] = row_bounds(network, objective, params, held.rows)
    if name == "diffullama" and not steps:
        reported = annealed(objective.evaluate, 0.0)
        point["causal_row_nats"] = row_bounds(network, reported, params, held.rows)
    return point


def decoded(folder: pathlib.Path, model: pathlib.Path, held: Held, samplers: Sequence[str]) -> list[dict]:
    """Continuations of the first tokens of held-out rows: costs, nats under the public model, and one text."""
    import jax

    from mdlm_jax.runs.restore import open_run
    from mdlm_jax.sampling import sample
    from mdlm_jax.sampling.compare_run import measure_of
    from mdlm_jax.sampling.comparison import Contender, compare
    from mdlm_jax.sampling.run_sampler import sampler_of, trained_of

    run, texts = open_run(folder), {}
    trained, prompt = trained_of(run), np.asarray(held.rows.tokens)[:PROMPTS, :GIVEN]

    def contender(label: str) -> Contender:
        sampler = sampler_of(run, label)[1]

        def draw(key):
            tokens, trace = sample(key, run.model, run.params, prompt, sampler, GIVEN + NEW, trained)
            texts[label] = run.tokenizer.decode(np.asarray(tokens)[0, GIVEN:])
            return tokens, trace

        return Contender(label, draw, 0.0, None, "float32")

    rows = compare([contender(label) for label in samplers], jax.random.key(0), measure_of(run, model))
    return [
        {
            "sampler": row.label,
            "evaluations": row.evaluations,
            "tokens_per_second": row.tokens_per_second,
            "judge_nats": row.quality.judge_nats.value,
            "judge_error": row.quality.judge_nats.standard_error,
            "entropy": row.quality.entropy.value,
            "text": texts[row.label],
        }
        for row in rows
    ]


def kept(name: str, make) -> Any:
    """What `make` returns, made once and then read from a file of FOLDER."""
    from mdlm_jax.files import write_whole

    path = FOLDER / f"{name}.json"
    if not path.exists():
        write_whole(path, json.dumps(make()) + "\n")
    return json.loads(path.read_text())


def stored(held: Held, last: int) -> dict:
    """Writes all that is measured so far, with the figure, and returns it."""
    from experiments.conversion_results import figure
    from mdlm_jax.files import write_whole

    def known(name: str) -> Any:
        path = FOLDER / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    points = {name: [known(f"{name}-{steps}") for steps in range(last + 1)] for name in NAMES}
    decoding = {"ar": known("decoded-ar")} | {name: known(f"decoded-{name}-{last}") for name in RECIPES}
    whole = {
        "command": "python experiments/conversion.py MODEL DATA",
        "held_out": {"rows": ROWS, "tokens_per_row": held.tokens, "bytes": held.bytes, "draws": DRAWS},
        "starts": known("starts"),
        "ar_row_nats": known("ar"),
        "points": {name: list(filter(None, own)) for name, own in points.items()},
        "decoded_tokens": NEW,
        "decoding": {name: rows for name, rows in decoding.items() if rows},
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_whole(RESULTS / "results.json", json.dumps(whole, indent=1) + "\n")
    (RESULTS / "curves.png").write_bytes(figure(whole))
    return whole


def main(model: pathlib.Path, data: pathlib.Path, tokens: int) -> None:
    import jax

    from experiments.conversion_results import decoding_table, differences, starts_table, table
    from mdlm_jax.objectives.autoregressive import ar_without_start
    from mdlm_jax.runs.donor import with_mean_mask
    from mdlm_jax.runs.restore import open_run

    FOLDER.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(FOLDER / "compiled"))
    model, data = model.resolve(), data.resolve()
    held, public = held_out(model, data), open_run(model)
    donor = public._replace(params=with_mean_mask(public.params))
    exact = ar_without_start(public.vocab_size)
    kept("ar", lambda: row_bounds(public.model, exact, public.params, held.rows, draws=1))
    kept("starts", lambda: start_losses(donor, data))
    last = tokens // (BATCH * LENGTH) // STAGE * STAGE
    for steps in range(0, last + 1, STAGE):
        for name in NAMES:
            point = kept(f"{name}-{steps}", lambda: measured(name, steps, model, data, held, donor))  # noqa: B023
            print(name, steps, np.mean(point["row_nats"]) / held.tokens, flush=True)
            stored(held, last)
    kept("decoded-ar", lambda: decoded(model, model, held, ["autoregressive:temperature=0"]))
    parallel = [f"confidence:temperature=0,steps={steps}" for steps in STEPS]
    for name in RECIPES:
        kept(f"decoded-{name}-{last}", lambda: decoded(FOLDER / name, model, held, parallel))  # noqa: B023
    whole = stored(held, last)
    print("\n".join([*starts_table(whole), *table(whole), *decoding_table(whole)]))
    print(differences(whole, "dream"))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int((sys.argv[3:] or ["5120"])[0]))
