"""Samples of the compute-optimal runs of a sweep, one per objective and budget: their speed and quality.

Likelihoods of different model families do not rank their samplers (arXiv 2602.15014), so the text itself is evaluated.
"""

import json
import math
import pathlib
from collections import defaultdict
from collections.abc import Sequence

import jax

from mdlm_jax.errors import UserError
from mdlm_jax.files import write_whole
from mdlm_jax.report.groups import base_objective
from mdlm_jax.report.samples import FILE_NAME
from mdlm_jax.runs.restore import Run, open_run
from mdlm_jax.runs.result import Result
from mdlm_jax.runs.say import doing
from mdlm_jax.sampling.compare_run import contenders, measure_of
from mdlm_jax.sampling.comparison import Measured, compare
from mdlm_jax.sampling.run_sampler import trained_of, usual_samplers
from mdlm_jax.sampling.text import fields

SHARES = (1, 4, 16)  # tokens per step, for samplers with steps


def best_runs(results: Sequence[Result]) -> list[Result]:
    """The best run of each objective and budget: the first seed of the size with the lowest mean loss over seeds."""
    losses = defaultdict(lambda: defaultdict(list))
    for run in sorted((run for run in results if run.status == "done"), key=lambda run: (run.budget, run.seed)):
        losses[run.objective, run.budget or run.steps][run.size].append(run)
    best = []
    for sizes in losses.values():
        best.append(min(sizes.values(), key=lambda runs: sum(run.loss for run in runs) / len(runs))[0])
    return best


def default_judge(results: Sequence[Result]) -> str:
    """The id of the `ar` run with the lowest loss.

    Raises:
        UserError: No run of `ar` is done.
    """
    judges = [run for run in results if base_objective(run.objective) == "ar" and run.status == "done"]
    if not judges:
        raise UserError("no run of `ar` is done, and text is judged by one; accepted: --judge=RUN")
    return min(judges, key=lambda run: run.loss).run_id


def samplers_of(run: Run) -> list[str]:
    """The default sampler of a run. A sampler with steps is listed for 1, 4 and 16 tokens per step."""
    sampler, length = usual_samplers(run)[0], run.config.data.sequence_length
    if "steps" not in fields(sampler) or trained_of(run).num_steps:
        return [sampler]
    return [f"{sampler}:steps={math.ceil(length / share)}" for share in SHARES]


def measure_samples(folder: pathlib.Path, judge: pathlib.Path, rows: int = 64, repeats: int = 4) -> pathlib.Path:
    """Draws samples from a run with each of its samplers and writes samples.json into its folder.

    The file has the judge and, for each sampler, tokens per second, evaluations per row, and the nats under the judge
    and the entropy with their standard errors.

    Args:
        folder: The run.
        judge: An `ar` run, or a public autoregressive model, that evaluates the text.
        rows: Rows in a batch.
        repeats: Batches of each sampler.

    Returns:
        The path of samples.json.

    Raises:
        UserError: The run or the judge cannot be opened.
    """
    run = open_run(folder)
    length = run.config.data.sequence_length
    contending = contenders(run, samplers_of(run), "", rows, None)
    with doing(f"sampling {folder.name}"):
        found = compare(contending, jax.random.key(run.config.seed), measure_of(run, judge), repeats)
    content = {
        "judge": judge.name,
        "length": length,
        "rows": rows * repeats,
        "batch": rows,
        "device": jax.devices()[0].device_kind,
        "samples": [_sample(row) for row in found],
    }
    path = folder / FILE_NAME
    write_whole(path, json.dumps(content, indent=1) + "\n")
    return path


def _sample(row: Measured) -> dict:
    return {
        "plan": row.label,
        "tokens_per_second": row.tokens_per_second,
        "evaluations": row.evaluations,
        "judge_nats": list(row.quality.judge_nats),
        "judge_bits_per_byte": row.quality.judge_bits_per_byte and list(row.quality.judge_bits_per_byte),
        "entropy": list(row.quality.entropy),
    }
