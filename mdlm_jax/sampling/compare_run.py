"""Several samplers on one trained run, with the quality of their text."""

import pathlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from mdlm_jax.configs.checks import check_seed
from mdlm_jax.data.markov import markov_chain, parse_markov
from mdlm_jax.errors import UserError
from mdlm_jax.evaluation.judge import Judged, judge_text, judge_tokens
from mdlm_jax.evaluation.quality import Quality, measure, negative_log_likelihood
from mdlm_jax.runs.restore import Run, open_run
from mdlm_jax.runs.say import doing
from mdlm_jax.sampling import sample
from mdlm_jax.sampling.base import Request, Trace
from mdlm_jax.sampling.checks import check
from mdlm_jax.sampling.comparison import Contender, Measured, compare
from mdlm_jax.sampling.prompts import encode_prompt
from mdlm_jax.sampling.run_sampler import length_of, sampler_of, trained_of
from mdlm_jax.sampling.sample_run import claim_output
from mdlm_jax.sampling.show.chart import write_comparison
from mdlm_jax.sampling.text import errors_of


def compare_run(
    folder: pathlib.Path,
    *,
    samplers: list[str],
    out: pathlib.Path,
    judge: pathlib.Path | None = None,
    prompt: str = "",
    count: int = 8,
    length: int | None = None,
    seed: int = 0,
) -> list[Measured]:
    """Draws `count` samples by each sampler; writes their costs and quality as compare.json and compare.png into `out`.

    Args:
        folder: A run with a checkpoint. The text of a run on a Markov source is measured by that source.
        samplers: Samplers as text, as `sampler_of` reads them.
        out: The folder for the results.
        judge: Folder of a run of `ar` or of a public autoregressive model, which scores the text. Where its tokens are
            others, it reads the text of the samples.
        prompt: Beginning of every sample.
        count: Samples per sampler, at least 2.
        length: Tokens per sample. Default: those of a row in training.
        seed: Seed of all randomness.

    Raises:
        UserError: A sampler, the judge or the prompt does not fit the run.
    """
    check_seed(seed)
    run = open_run(folder)
    contending, measured = contenders(run, samplers, prompt, count, length), measure_of(run, judge)
    claim_output(out)
    with doing("comparing the samplers"):
        rows = compare(contending, jax.random.key(seed), measured)
    write_comparison(rows, out)
    return rows


def contenders(run: Run, samplers: Sequence[str], prompt: str, count: int, length: int | None) -> list[Contender]:
    """A contender of `count` rows for each sampler. Raises UserError where one or the prompt does not fit the run."""
    if count < 2:
        raise UserError(f"{count} samples: accepted is 2 or more, for errors")
    given = np.tile(encode_prompt(prompt, run.tokenizer), (count, 1))
    trained, length, found = trained_of(run), length_of(run, length), []
    for text in samplers:
        name, sampler = sampler_of(run, text)
        with errors_of(name):
            check(sampler, Request(given, length, run.vocab_size, trained))
        draw = partial(
            _sample_by,
            name,
            model=run.model,
            params=run.params,
            prompt=given,
            sampler=sampler,
            length=length,
            trained=trained,
        )
        temperature, top_p = getattr(sampler, "temperature", 1.0), getattr(sampler, "top_p", None)
        found.append(Contender(text, draw, temperature, top_p, run.config.train.compute_dtype))
    return found


def _sample_by(name: str, key: Array, **arguments: Any) -> tuple[Array, Trace]:
    with errors_of(name):
        return sample(key, **arguments)


def measure_of(run: Run, judge: pathlib.Path | None) -> Callable[[np.ndarray, np.ndarray], Quality]:
    """What measures tokens of this run: (tokens, which were drawn) -> Quality.

    Raises UserError where `judge` is no run of `ar`, or one of the two is no text and the tokens differ.
    """
    vocab = run.vocab_size
    known = {"vocab": vocab}
    if run.config.data.source == "markov":
        known["source"] = markov_chain(*parse_markov(run.config.data.path))
    if judge is not None:
        known["judge"] = _judge(judge, run)
    return partial(measure, **known)


def _judge(folder: pathlib.Path, judged: Run) -> Callable[[np.ndarray, np.ndarray], Judged]:
    run = open_run(folder)
    if run.config.objective.name != "ar":
        raise UserError(f"--judge={folder}: objective {run.config.objective.name}; accepted: a run of ar")
    context, reads_start = run.config.data.sequence_length, not run.config.data.extra_token

    def nats_of(tokens):
        return negative_log_likelihood(run.model, run.params, tokens, context, reads_start)

    tokenizer, own, is_text = run.tokenizer, judged.tokenizer, judged.tokenizer.separator >= 0
    if run.vocab_size == judged.vocab_size and tokenizer.fingerprint == own.fingerprint:
        return partial(judge_tokens, nats_of, tokenizer if is_text else None)
    if not (is_text and tokenizer.separator >= 0):
        raise UserError(f"--judge={folder}: its tokens are others; accepted: a run with the tokens of the one judged")
    return partial(judge_text, nats_of, tokenizer, reads_start, own)
