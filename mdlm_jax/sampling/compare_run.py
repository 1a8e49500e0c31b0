"""Several plans on one trained run, with the quality of their text."""

import pathlib
from collections.abc import Callable, Sequence
from functools import partial

import jax
import numpy as np

from mdlm_jax.data.markov import markov_chain, parse_markov
from mdlm_jax.errors import UserError
from mdlm_jax.evaluation.quality import Quality, measure, negative_log_likelihood
from mdlm_jax.runs.restore import Run, open_run
from mdlm_jax.sampling import sample
from mdlm_jax.sampling.compare import Contender, Row, compare, parse_plan
from mdlm_jax.sampling.run import claim_output, encode_prompt, plan_of
from mdlm_jax.sampling.show.comparison import write_comparison


def compare_run(
    folder: pathlib.Path,
    *,
    plans: list[str],
    out: pathlib.Path,
    judge: pathlib.Path | None = None,
    prompt: str = "",
    count: int = 8,
    length: int | None = None,
    seed: int = 0,
) -> list[Row]:
    """`count` samples by each plan, written with their costs and quality as compare.json and compare.png into `out`.

    A plan is text as `parse_plan` reads it. A run on a Markov source is measured by that source; `judge` is the folder
    of an autoregressive run with the same tokens, which scores the text. Raises UserError where a plan, the judge or
    the prompt cannot be followed.
    """
    run = open_run(folder)
    contending = contenders(run, plans, prompt, count, length)
    claim_output(out)
    rows = compare(contending, jax.random.key(seed), measure_of(run, judge))
    write_comparison(rows, out)
    return rows


def contenders(run: Run, plans: Sequence[str], prompt: str, count: int, length: int | None) -> list[Contender]:
    """A way to draw `count` rows by each plan. Raises UserError where a plan or the prompt cannot be followed."""
    if count < 2:
        raise UserError(f"{count} samples: accepted is 2 or more, for errors")
    given = np.tile(encode_prompt(prompt, run.tokenizer), (count, 1))
    found = []
    for text in plans:
        plan = plan_of(run, length=length, **parse_plan(text))
        draw = partial(sample, model=run.model, params=run.params, prompt=given, plan=plan)
        found.append(Contender(text, draw, plan.temperature, plan.top_p, run.config.train.compute_dtype))
    return found


def measure_of(run: Run, judge: pathlib.Path | None) -> Callable[[np.ndarray, np.ndarray], Quality]:
    """All that can be measured of tokens like this run's: (tokens, which were drawn) -> Quality.

    Raises UserError where the judge is none.
    """
    vocab = run.vocab_size
    known = {"vocab": vocab}
    if run.config.data.source == "markov":
        known["source"] = markov_chain(*parse_markov(run.config.data.path))
    if judge is not None:
        known["judge"] = _judge(judge, vocab, run.tokenizer)
    return partial(measure, **known)


def _judge(folder: pathlib.Path, vocab: int, tokenizer):
    run = open_run(folder)
    if run.config.objective.name != "ar":
        raise UserError(f"--judge={folder}: objective {run.config.objective.name}; accepted: a run of ar")
    probe = "".join(map(chr, range(32, 127)))
    same = run.vocab_size == vocab
    if run.config.data.source != "markov" and tokenizer.separator >= 0:
        same = same and np.array_equal(run.tokenizer.encode(probe), tokenizer.encode(probe))
    if not same:
        raise UserError(
            f"--judge={folder}: its tokens are others; accepted: a run with the tokenizer of the one judged"
        )
    context, reads_start = run.config.data.sequence_length, not run.config.data.extra_token
    return lambda tokens: negative_log_likelihood(run.model, run.params, tokens, context, reads_start)
