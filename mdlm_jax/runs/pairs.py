"""The likelihood of answers given their prompts under a trained run, as one JSON object."""

import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from mdlm_jax.data import Example
from mdlm_jax.data.pairs import NAMES, Pair, pairs_of, read_pairs
from mdlm_jax.data.tokenizer import encode_given
from mdlm_jax.errors import UserError
from mdlm_jax.evaluation.pairs import PairNats
from mdlm_jax.evaluation.quality import Estimate, ratio
from mdlm_jax.runs.answer_nats import answer_nats, asked_of, described
from mdlm_jax.runs.restore import Run, open_run
from mdlm_jax.runs.say import doing

BUCKET = 64  # tokens: files whose longest pairs round up to the same multiple share a program


def evaluate_pairs(
    folder: pathlib.Path,
    pairs: str | os.PathLike | Sequence[Sequence[str]],
    *,
    likelihood: str | None = None,
    draws: int | None = None,
    orders: int | None = None,
    guidance: float | None = None,
    prompt_field: str | None = None,
    answer_field: str | None = None,
) -> dict[str, Any]:
    """Nats of each answer given its prompt, with the error of the noise, and means over the pairs.

    The noise of each pair depends on its tokens alone, so two calls give the same numbers.

    Args:
        folder: The run's folder.
        pairs: A .jsonl file with one object a line, or (prompt, answer) of each pair.
        likelihood: A key of LIKELIHOODS; None or elbo for what the objective reports.
        draws: Views of each pair, an even number; None for 128. An exact objective needs no more than one.
        orders: Of the likelihood `orders`: random orders of each pair; None for 64.
        guidance: Weight of classifier-free guidance by the prompt; None for none.
        prompt_field: The field of the file's objects with the prompt; None for prompt.
        answer_field: The field with the answer; None for answer.

    Raises:
        UserError: There is no run, a pair is not as above or too long, or it has no such likelihood or guidance.
    """
    path, given = _read(pairs, prompt_field, answer_field)
    run = open_run(folder, padded=True)
    asked = asked_of(run, likelihood=likelihood, draws=draws, orders=orders, guidance=guidance)
    with doing("evaluating"):
        found = answer_nats(run, pair_rows(run, given), asked, run.config.eval.batch_size)
    return {
        "run": folder.name,
        "step": run.step,
        "objective": run.config.objective.name,
        **described(run, asked),
        "path": path,
        **summary(found, sum(len(pair.answer.encode()) for pair in given) if run.tokenizer.separator >= 0 else None),
    }


def _read(pairs, prompt_field: str | None, answer_field: str | None) -> tuple[str | None, list[Pair]]:
    """The path of the pairs, None where they come from no file, and the pairs."""
    if isinstance(pairs, str | os.PathLike):
        fields = (given or name for given, name in zip((prompt_field, answer_field), NAMES, strict=True))
        return str(pairs), read_pairs(str(pairs), *fields)
    for name, field in zip(NAMES, (prompt_field, answer_field), strict=True):
        if field is not None:
            raise UserError(f"{name}_field={field!r}: these pairs have no fields; accepted: with a file of pairs")
    return None, pairs_of(pairs)


def summary(found: PairNats, answer_bytes: int | None) -> dict[str, Any]:
    """Means over the pairs with their errors, and each pair. Standard errors are None where there is one pair.

    Args:
        found: The nats of each pair.
        answer_bytes: UTF-8 bytes of all answers; None where tokens are no text.
    """
    count, tokens = len(found.nats), int(found.tokens.sum())
    noise = float(np.sqrt((found.standard_error**2).sum()))

    def named(name: str, estimate: Estimate, total: int) -> dict[str, float | None]:
        error = None if math.isnan(estimate.standard_error) else estimate.standard_error
        return {name: estimate.value, f"{name}_standard_error": error, f"{name}_monte_carlo_error": noise / total}

    return {
        "pairs": count,
        "tokens": tokens,
        **named("nats_per_pair", ratio(found.nats, np.ones(count)), count),
        **named("nats_per_token", ratio(found.nats, found.tokens), tokens),
        "bits_per_byte": float(found.nats.sum()) / math.log(2) / answer_bytes if answer_bytes else None,
        "each": [
            {"nats": float(nats), "standard_error": float(error), "tokens": int(length)}
            for nats, error, length in zip(*found, strict=True)
        ],
    }


def pair_rows(run: Run, pairs: Sequence[Pair]) -> Example:
    """One row a pair: the tokens of its prompt, which are given, those of its answer, and padding.

    Raises:
        UserError: A pair has no answer or too many tokens, or lacks a prompt where the network has no start symbol.
    """
    config = run.config
    starts = not (config.objective.name == "ar" and config.data.extra_token)
    most = config.data.sequence_length + (not starts)
    encoded = [[_tokens(run, pair, name) for name in NAMES] for pair in pairs]
    for pair, (prompt, answer) in zip(pairs, encoded, strict=True):
        if not len(answer):
            raise UserError(f"{pair.where}: the answer is empty; accepted: one token or more")
        if not (starts or len(prompt)):
            raise UserError(f"{pair.where}: the prompt is empty; accepted: text, as the network has no start symbol")
        if len(prompt) + len(answer) > most:
            counts = f"{len(prompt)} tokens of prompt and {len(answer)} of answer"
            raise UserError(f"{pair.where}: {counts}; accepted: {most} together, those of a row in training")
    longest = max(len(prompt) + len(answer) for prompt, answer in encoded)
    width = most if config.objective.block_size else min(-(-longest // BUCKET) * BUCKET, most)
    rows = Example(*(np.zeros((len(pairs), width), kind) for kind in (np.int32, np.int32, bool)))
    for index, (prompt, answer) in enumerate(encoded):
        end = len(prompt) + len(answer)
        rows.tokens[index, :end] = np.concatenate([prompt, answer])
        rows.segments[index, :end] = 1
        rows.prompt_mask[index, : len(prompt)] = True
    return rows


def _tokens(run: Run, pair: Pair, name: str) -> np.ndarray:
    """The ids of the prompt or the answer of a pair."""
    tokens = encode_given(f"{pair.where}, {name}", getattr(pair, name), run.tokenizer)
    outside = tokens[(tokens < 0) | (tokens >= run.vocab_size)]
    if len(outside):
        raise UserError(f"{pair.where}, {name}: token {outside[0]}; accepted: 0 to {run.vocab_size - 1}")
    return tokens
