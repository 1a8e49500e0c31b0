"""The functions that a user calls on a run: train, evaluate, sample, open."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Int
from ml_collections import ConfigDict

from mdlm_jax.configs.checks import refuse_unread, validate
from mdlm_jax.errors import UserError
from mdlm_jax.runs import evaluate as runs_evaluate
from mdlm_jax.runs import loop, restore
from mdlm_jax.runs.held_out import DataOptions
from mdlm_jax.runs.restore import Run
from mdlm_jax.runs.result import Result
from mdlm_jax.sampling import Trace
from mdlm_jax.sampling import sample as draw
from mdlm_jax.sampling.prompts import encode_prompt
from mdlm_jax.sampling.run_sampler import length_of, sampler_of, trained_of


class Samples(NamedTuple):
    """What a run generated from one prompt."""

    text: list[str]  # one string a sample, the prompt included
    tokens: Int[Array, "B L"]
    trace: Trace  # the step at which each position was filled, and the network evaluations used


def train(config: ConfigDict, folder: str | os.PathLike) -> Result | None:
    """Trains one model in its own folder, and resumes automatically where the folder holds an unfinished run.

    Args:
        config: What to train, from `load_config`.
        folder: Holds config.json, metrics.jsonl, checkpoints and, at the end, result.json.

    Returns:
        The result, or None where a signal ended the run early and its state was saved.

    Raises:
        UserError: The config cannot be run or has a key that nothing reads, or the folder holds another run.
    """
    if not pathlib.Path(folder, "config.json").exists():
        validate(config)
        refuse_unread(config)
    return loop.train(config, pathlib.Path(folder))


def evaluate(
    folder: str | os.PathLike,
    *,
    draws: int | None = None,
    sequences: int | None = None,
    data: str | None = None,
    source: str | None = None,
    length: int | None = None,
) -> dict[str, Any]:
    """Held-out likelihood (or its bound) of a trained run. The noise is fixed: two calls return the same numbers.

    Args:
        folder: A run with a checkpoint.
        draws: Noise draws per sequence, at least 2. Default: `eval.draws` of the run.
        sequences: Held-out sequences. Default: `eval.sequences` of the run.
        data: Path of another corpus, or of the run's own where it has moved. Default: the run's own.
        source: What kind of corpus `data` is, as `data.source` in a config. Default: the run's own.
        length: Tokens of a sequence. Default: those of a row in training.

    Returns:
        Nats per token with their standard errors, perplexity and bits per byte (None where the data have no bytes).

    Raises:
        UserError: There is no run, no checkpoint, or no corpus to evaluate it on.
    """
    options = DataOptions(path=data, source=source, sequence_length=length)
    return runs_evaluate.evaluate_run(pathlib.Path(folder), draws=draws, sequences=sequences, data=options)


def open_run(folder: str | os.PathLike) -> Run:
    """Opens a trained run at its newest checkpoint, on one device.

    Args:
        folder: A run with a checkpoint.

    Returns:
        The run: its config, step, parameters (the moving average where one was kept) and objective parameters.

    Raises:
        UserError: There is no run or no checkpoint in the folder.
    """
    return restore.open_run(pathlib.Path(folder))


def sample(
    folder: str | os.PathLike,
    *,
    prompts: Sequence[str] = ("",),
    count: int = 1,
    length: int | None = None,
    sampler: str | None = None,
    seed: int = 0,
) -> list[Samples]:
    """Generates text from a trained run.

    Args:
        folder: A run with a checkpoint.
        prompts: Texts to continue. The empty text is an unconditional sample.
        count: Samples per prompt.
        length: Tokens per sample, prompt included. Default: the sequence length of training.
        sampler: A sampler with its settings, such as "confidence:rule=threshold,limit=0.9". Default: the usual one of
            the run's objective.
        seed: Of the random draws. The samples of a prompt do not depend on the other prompts.

    Returns:
        For each prompt, `count` samples.

    Raises:
        UserError: There is no run, or the objective cannot be sampled this way.
    """
    if count < 1:
        raise UserError(f"count={count}; accepted: 1 or more")
    run = restore.open_run(pathlib.Path(folder))
    (_, chosen), trained, length = sampler_of(run, sampler), trained_of(run), length_of(run, length)
    drawn = []
    for prompt in prompts:
        given = np.tile(encode_prompt(prompt, run.tokenizer), (count, 1))
        tokens, trace = draw(jax.random.key(seed), run.model, run.params, given, chosen, length, trained)
        rows = [[int(token) for token in row if 0 <= token < run.vocab_size] for row in np.asarray(tokens)]
        drawn.append(Samples([run.tokenizer.decode(row) for row in rows], tokens, trace))
    return drawn
