"""Trains every objective on a Markov chain of known entropy, which no bound can be below.

    python experiments/floors.py [FOLDER]

Each small network trains for 4,000 steps of 64 rows of 16 tokens (implicit CSM: 24,000), all in about half an hour on
two cores. Writes experiments/results/floors.json and docs/theory/floors.md. Finished runs are not repeated.
"""

import json
import pathlib
import sys

from ml_collections import ConfigDict

root = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(root))

from mdlm_jax.config import is_read  # noqa: E402
from mdlm_jax.configs import base  # noqa: E402

TITLE = "Every objective on a Markov chain"
CHAIN = "vocab=8,concentration=0.3"
LENGTH = 16
VARIANTS = [
    {"name": "ar"},
    {"name": "any_order"},
    {"name": "any_order_causal"},
    {"name": "masked"},
    {"name": "masked", "schedule": "cosine", "num_steps": 1000},
    {"name": "masked", "complementary": True},
    {"name": "masked", "block_size": 4},
    {"name": "masked_lm"},
    {"name": "masked_plain"},
    {"name": "genmd4"},
    {"name": "d3pm", "process": "absorbing"},
    {"name": "d3pm", "process": "uniform", "auxiliary": 0.01},
    {"name": "d3pm", "process": "hybrid"},
    {"name": "d3pm", "process": "gaussian_matrix"},
    {"name": "tauldr", "process": "absorbing"},
    {"name": "tauldr", "process": "uniform"},
    {"name": "sedd", "process": "absorbing", "score": "scaled"},
    {"name": "sedd", "process": "absorbing", "score": "denoiser"},
    {"name": "sedd", "process": "uniform"},
    {"name": "sedd", "process": "uniform", "block_size": 4},
    {"name": "gidd"},
    {"name": "udlm", "schedule": "cosine"},
    {"name": "duo"},
    {"name": "csm"},
    {"name": "csm", "form": "implicit"},
    {"name": "gaussian"},
]


def grid() -> list[ConfigDict]:
    configs = []
    for variant in VARIANTS:
        config = base.get_config()
        config.objective.update(variant)
        # it sees one neighbour of L (V - 1) in each row: its gradient is much noisier than the others
        implicit = config.objective.form == "implicit"
        config.steps = 24_000 if implicit else 4000
        config.data.source = "markov"
        config.data.path = CHAIN
        config.data.sequence_length = LENGTH
        config.model.size = ""
        config.model.layers, config.model.width, config.model.mlp_width = 2, 32, 96
        config.model.heads = config.model.key_value_heads = 2
        if is_read(config, "model.time_width"):
            config.model.time_width = 32
        config.model.rope_base = 100.0
        config.optim.lr = 2e-3 if implicit else 5e-3
        config.optim.final = 0.0
        config.optim.weight_decay = 0.0
        config.optim.ema = 0.999
        config.train.checkpoint_every = 0
        config.train.scan_layers = True
        config.train.log_every = 500
        config.eval.sequences = 4096
        config.eval.draws = 64
        config.eval.batch_size = 4096
        configs.append(config)
    return configs


def main(folder: pathlib.Path) -> None:
    from mdlm_jax.data.markov import markov_chain, parse_markov
    from mdlm_jax.exact.markov import markov_entropy
    from mdlm_jax.files import write_whole
    from mdlm_jax.runs.result import read_results
    from mdlm_jax.sweeps import launchers, sweep
    from mdlm_jax.sweeps.experiment import load_experiment
    from mdlm_jax.sweeps.names import run_ids

    sweep.run(load_experiment(__file__), folder, launchers.local())
    floor = markov_entropy(*markov_chain(*parse_markov(CHAIN)), LENGTH) / LENGTH
    runs, problems = read_results([folder / name for name in run_ids(grid())])
    for problem in problems:
        print(problem, file=sys.stderr)
    lines = [
        "# What each objective reaches",
        "",
        f"Each objective trains one small network on rows of {LENGTH} tokens from a Markov chain ({CHAIN}), and is",
        f"evaluated by the bound that the last column names, in nats per token. The entropy of a row is {floor:.4f}",
        "nats per token, and no bound can be below it. A perfect network would reach it with every objective except",
        "those with a finite number of steps, whose own minimum is higher. The error is that of the evaluation,",
        "over text and noise. `python experiments/floors.py` writes this page.",
        "",
        "| objective | entropy | bound | excess | standard error | seconds | estimator |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {run.objective} | {floor:.4f} | {run.loss:.4f} | {run.loss - floor:+.4f} | {run.loss_standard_error:.4f} "
        f"| {run.wall_seconds:.0f} | {run.estimator} |"
        for run in runs
    ]
    write_whole(root / "docs" / "theory" / "floors.md", "\n".join(lines) + "\n")
    stored = [
        {
            "objective": run.objective,
            "floor": floor,
            "reached": run.loss,
            "standard_error": run.loss_standard_error,
            "monte_carlo_error": run.loss_monte_carlo_error,
            "seconds": run.wall_seconds,
            "parameters": run.parameters_total,
            "estimator": run.estimator,
        }
        for run in runs
    ]
    whole = {"command": "python experiments/floors.py", "runs": stored}
    write_whole(root / "experiments" / "results" / "floors.json", json.dumps(whole, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "runs/floors"))
