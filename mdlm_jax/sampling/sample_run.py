"""Samples of a trained run, as text."""

import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int
from rich.console import Console

from mdlm_jax.configs.checks import check_seed
from mdlm_jax.errors import UserError
from mdlm_jax.runs.restore import open_run
from mdlm_jax.runs.say import doing
from mdlm_jax.sampling import sample
from mdlm_jax.sampling.run_request import Prompt, request_of
from mdlm_jax.sampling.show.live import live_view
from mdlm_jax.sampling.show.pictures import Pictures, palette, write_pictures
from mdlm_jax.sampling.show.render import render
from mdlm_jax.sampling.show.replay import replay, write_replay
from mdlm_jax.sampling.text import as_text, errors_of


def sample_run(
    folder: pathlib.Path,
    *,
    prompts: Sequence[Prompt],
    sampler: str | None = None,
    fields: Mapping[str, Any] | None = None,
    count: int = 1,
    length: int | None = None,
    new_tokens: int | None = None,
    mask_token: str = "",
    tokens: Mapping[str, str] | None = None,
    seed: int = 0,
    out: pathlib.Path | None = None,
) -> Iterator[str]:
    """For each prompt, `count` samples of the newest checkpoint as text for a terminal.

    All prompts are checked before anything is drawn. On a terminal the text is shown while it is drawn.

    Args:
        folder: A run with a checkpoint.
        prompts: Beginnings of the texts, or conversations, as `request_of` reads them. The samples of a prompt depend
            on no other prompt.
        sampler: A sampler as text, as `sampler_of` reads it. Default: the usual one of the run.
        fields: More of its fields.
        count: Samples per prompt.
        length: Tokens per sample, the prompt's included. Default: those of a row in training, or those of the prompt
            where it has masks.
        new_tokens: Tokens after the prompt, instead of `length`.
        mask_token: Text that stands for a mask in the prompts, as in `encode_prompt`.
        tokens: The fields stop, suppress and delay as text, each by ids or by what its tokens say. A stop of several
            tokens cuts the text when it is shown.
        seed: Seed of all randomness.
        out: Folder for a replay, and for the pictures of a run on captioned images; a folder inside it for each of
            several prompts.

    Raises:
        UserError: There is no run, or a prompt, the seed or the sampler does not fit it.
    """
    check_seed(seed)
    run = open_run(folder)
    request = request_of(
        run,
        prompts,
        sampler=sampler,
        fields=fields,
        count=count,
        length=length,
        new_tokens=new_tokens,
        mask_token=mask_token,
        tokens=tokens,
    )
    tokenizer, mask_id, chosen, trained = run.tokenizer, run.vocab_size, request.sampler, request.trained
    if out:
        claim_output(out)
    pictures = Pictures(run.layout, palette(run.config.data.source, run.layout.levels)) if run.layout else None
    watchers: list[Callable] = []
    watch = _watch_all(watchers) if out or Console().is_terminal else None
    for number, (prompt, rows, total) in enumerate(zip(prompts, request.prompts, request.lengths, strict=True)):
        frames: list[np.ndarray] = []
        with live_view(tokenizer, mask_id) as view:
            watchers[:] = [view, frames.append] if out else [view]
            with errors_of(request.name), doing("sampling"):
                key = jax.random.key(seed)
                drawn = sample(key, run.model, run.params, rows, chosen, total, trained, watch)
                drawn, trace = jax.block_until_ready(drawn)
            jax.effects_barrier()
        if out:
            heading = {
                "run": folder.name,
                "prompt": prompt if isinstance(prompt, str) else prompt[-1]["content"],
                "seed": str(seed),
                "length": str(total),
            }
            heading |= as_text(request.name, chosen)
            played = replay(frames, np.asarray(drawn), trace, tokenizer, mask_id, heading)
            place = out / str(number) if len(prompts) > 1 else out
            write_replay(place, played)
            if pictures is not None:
                write_pictures(place, pictures, drawn, tokenizer)
        yield render(drawn, trace, tokenizer, request.stop, pictures)


def claim_output(folder: pathlib.Path) -> None:
    """Makes the output folder before anything is drawn. Raises UserError where it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"--out={folder}: cannot be written ({error.strerror}); accepted: a folder") from error


def _watch_all(watchers: list[Callable]) -> Callable[[Int[Array, "B L"]], None]:
    """One function for all prompts, so that one compiled program serves them all."""

    def watch(tokens):
        tokens = np.array(tokens)
        for watcher in watchers:
            watcher(tokens)

    return watch
