"""Text after a prompt by any sampler of ours, cut where the task says it ends."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mdlm_jax.errors import UserError
from mdlm_jax.evaluation.likelihood import NUMBERS
from mdlm_jax.harness.answers import key_of
from mdlm_jax.harness.scoring import Scorer
from mdlm_jax.sampling import left_padded, sample
from mdlm_jax.sampling.checks import cannot
from mdlm_jax.sampling.run_sampler import sampler_of, trained_of
from mdlm_jax.sampling.text import fields as fields_of
from mdlm_jax.sampling.text import parse, split_name

BUCKET = 64  # tokens: prompts whose lengths round up to the same multiple share a program
NEW_TOKENS = 256  # where a task does not say how many, as in lm_eval
SEED = 0  # of all drawing: equal requests draw equal text
KNOWN = ("until", "do_sample", "max_gen_toks", "temperature", "top_k", "top_p")


class Wanted(NamedTuple):
    """What a request wants drawn."""

    prompt: tuple[int, ...]
    new: int  # tokens
    fields: tuple[tuple[str, Any], ...]  # of the sampler
    until: tuple[str, ...]  # texts that end it


def wanted(scorer: Scorer, sampler: str | None, context: str, arguments: Mapping[str, Any]) -> Wanted:
    """The request of a task.

    Args:
        scorer: The network.
        sampler: A sampler as text; its own fields come before those of the task.
        context: The text to continue. Where it is too long, its first tokens are left out.
        arguments: The task's `generation_kwargs`.

    Raises:
        UserError: The task sets what no sampler knows, or wants more tokens than a row has.
    """
    unknown = arguments.keys() - set(KNOWN)
    if unknown:
        raise UserError(f"generation_kwargs {min(unknown)}: not served; accepted: {', '.join(KNOWN)}")
    until = arguments.get("until") or []
    until = [until] if isinstance(until, str) else until
    new = int(arguments.get("max_gen_toks", NEW_TOKENS))
    context_length = scorer.run.config.data.sequence_length
    if not 1 <= new < context_length:
        raise UserError(f"max_gen_toks={new}; accepted: 1 to {context_length - 1}, less than the tokens of a row")
    prompt = scorer.reader.encode(context)[-(context_length - new) :]
    if not prompt and scorer.reader.prefix is not None:
        prompt = [scorer.reader.prefix]
    return Wanted(tuple(prompt), new, _fields(scorer, sampler, arguments), tuple(text for text in until if text))


def _fields(scorer: Scorer, sampler: str | None, arguments: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """What the task says of drawing, in fields that the sampler has and its text does not set."""
    name, _ = sampler_of(scorer.run, sampler)
    own, stop = parse(sampler) if sampler and split_name(sampler)[1] else {}, scorer.reader.end
    settings = {name: arguments[name] for name in ("temperature", "top_k", "top_p") if arguments.get(name) is not None}
    draws = arguments.get("do_sample", settings.get("temperature", 0) > 0)
    settings = {"temperature": 1.0} | settings if draws else {"temperature": 0.0}
    if stop is not None:
        settings["stop"] = stop
    known = {field: value for field, value in settings.items() if field in fields_of(name).keys() - own}
    return tuple(sorted((known | guided_by(scorer.asked.guidance)).items()))


def guided_by(guidance: float | None) -> dict[str, float]:
    """The field of a sampler that guides; none without guidance."""
    return {} if guidance is None else {"guidance": guidance}


def texts(scorer: Scorer, sampler: str | None, requests: Sequence[Wanted]) -> list[str]:
    """The text of each request. As with scores, batches do not depend on what was drawn before.

    Args:
        scorer: The network.
        sampler: A sampler as text; None: the usual one of the run.
        requests: What to draw.
    """
    keys = [_key(scorer, sampler, request) for request in requests]
    distinct = dict(zip(keys, requests, strict=True))
    groups: dict[tuple, list[str]] = {}
    for key, request in distinct.items():
        _, chosen = sampler_of(scorer.run, sampler, dict(request.fields))
        most = scorer.run.config.data.sequence_length - request.new
        padded = min(math.ceil(len(request.prompt) / BUCKET) * BUCKET, most)
        width = len(request.prompt) if "pad" in cannot(chosen) else padded
        groups.setdefault((width, request.new, request.fields), []).append(key)
    for (width, new, fields), members in groups.items():
        for start in range(0, len(members), scorer.batch_size):
            batch = members[start : start + scorer.batch_size]
            if any(key not in scorer.answers for key in batch):
                _, chosen = sampler_of(scorer.run, sampler, dict(fields))
                prompts = [distinct[key].prompt for key in batch]
                found = _drawn(scorer, chosen, prompts, width, new)
                scorer.answers.add({key: {"drawn": tokens} for key, tokens in zip(batch, found, strict=True)})
    return [
        cut(scorer.reader.decode(scorer.answers[key]["drawn"]), request.until)
        for key, request in zip(keys, requests, strict=True)
    ]


def cut(text: str, until: Sequence[str]) -> str:
    """The text before the first of the texts that end it.

    >>> cut("a b. c", [".", "b"])
    'a '
    """
    return text[: min((text.find(end) for end in until if end in text), default=len(text))]


def _key(scorer: Scorer, sampler: str | None, request: Wanted) -> str:
    named = sampler_of(scorer.run, sampler)
    how = [named[0], str(named[1]), request.new, list(map(list, request.fields))]
    return key_of("draw", scorer.digest, scorer.run.config.objective.name, how, request.prompt)


def _drawn(scorer: Scorer, sampler: Any, prompts: list[tuple[int, ...]], width: int, new: int) -> list[list[int]]:
    """The tokens after each prompt, up to the end of the text."""
    run = scorer.run
    filled = prompts + prompts[-1:] * (scorer.batch_size - len(prompts))  # no program for a last batch alone
    rows = left_padded([*filled, (0,) * width])[:-1]
    numbers = np.array([int(key_of(*prompt), 16) % NUMBERS for prompt in filled])
    drawn, _ = sample(
        jax.random.key(SEED), run.model, run.params, rows, sampler, width + new, trained_of(run), row_keys=numbers
    )
    found = np.asarray(drawn)[: len(prompts), width:].tolist()
    return [row[: row.index(scorer.reader.end)] if scorer.reader.end in row else row for row in found]
