"""Several plans on one trained run, with the quality of their text."""

import pathlib
from functools import partial

import jax
import numpy as np

from mdlm_jax.data.markov import markov_chain, parse_markov
from mdlm_jax.errors import UserError
from mdlm_jax.evaluation.quality import measure, negative_log_likelihood
from mdlm_jax.sampling import sample
from mdlm_jax.sampling.compare import Contender, Row, compare, parse_plan
from mdlm_jax.sampling.comparison import write_comparison
from mdlm_jax.sampling.run import claim_output, encode_prompt, plan_of
from mdlm_jax.training.restore import open_run


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
    model, config, tokenizer = run.built.model, run.config, run.built.data.tokenizer
    vocab = model.architecture.vocab_size
    given = np.tile(encode_prompt(prompt, tokenizer), (count, 1))
    if count < 2:
        raise UserError(f"{count} samples: accepted is 2 or more, for errors")
    contenders = []
    for text in plans:
        plan = plan_of(run, length=length, **parse_plan(text))
        draw = partial(sample, model=model, params=run.params, prompt=given, plan=plan)
        contenders.append(Contender(text, draw, plan.temperature, plan.top_p, config.train.compute_dtype))
    claim_output(out)
    known = {"vocab": vocab}
    if config.data.source == "markov":
        known["source"] = markov_chain(*parse_markov(config.data.path))
    if judge is not None:
        known["judge"] = _judge(judge, vocab, tokenizer)
    rows = compare(contenders, jax.random.key(seed), lambda tokens, drawn: measure(tokens, drawn, **known))
    write_comparison(rows, out)
    return rows


def _judge(folder: pathlib.Path, vocab: int, tokenizer):
    run = open_run(folder)
    if run.config.objective.name != "ar":
        raise UserError(f"--judge={folder}: objective {run.config.objective.name}; accepted: a run of ar")
    probe = "".join(map(chr, range(32, 127)))
    same = run.built.model.architecture.vocab_size == vocab
    if run.config.data.source != "markov" and tokenizer.separator >= 0:
        same = same and np.array_equal(run.built.data.tokenizer.encode(probe), tokenizer.encode(probe))
    if not same:
        raise UserError(
            f"--judge={folder}: its tokens are others; accepted: a run with the tokenizer of the one judged"
        )
    context, reads_start = run.config.data.sequence_length, not run.config.data.extra_token
    return lambda tokens: negative_log_likelihood(run.built.model, run.params, tokens, context, reads_start)
