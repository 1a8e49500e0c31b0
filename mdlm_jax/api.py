"""The functions that a user calls on a run: train, evaluate, sample, open."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Int
from ml_collections import ConfigDict

from mdlm_jax.configs.checks import refuse_unread, validate
from mdlm_jax.runs import evaluate as runs_evaluate
from mdlm_jax.runs import loop, restore
from mdlm_jax.runs.classify import classify_run
from mdlm_jax.runs.evaluation_options import refuse_mixed
from mdlm_jax.runs.held_out import DataOptions
from mdlm_jax.runs.pairs import evaluate_pairs
from mdlm_jax.runs.restore import Run
from mdlm_jax.runs.result import Result
from mdlm_jax.runs.retrieve import retrieve_run
from mdlm_jax.sampling import Trace
from mdlm_jax.sampling import sample as draw
from mdlm_jax.sampling.neighbours_of_run import neighbours_of_run
from mdlm_jax.sampling.prompts import end_of_text
from mdlm_jax.sampling.run_request import request_of


class Samples(NamedTuple):
    """What a run generated from one prompt."""

    text: list[str]  # one string a sample, the prompt included, cut before what ends the text
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
    validation_path: str | None = None,
    path: str | None = None,
    protocol: str | None = None,
    detokenize: str | None = None,
    field: str | None = None,
    pairs: str | os.PathLike | Sequence[Sequence[str]] | None = None,
    classify: bool = False,
    retrieve: int | None = None,
    neighbours: bool = False,
    prompt_field: str | None = None,
    answer_field: str | None = None,
    guidance: float | None = None,
    length: int | None = None,
    likelihood: str | None = None,
    orders: int | None = None,
) -> dict[str, Any]:
    """Likelihood (or its bound) of a trained run. The noise is fixed: two calls return the same numbers.

    It is that of held-out rows of a corpus, of any text (`path`), or of answers given prompts (`pairs`).

    Args:
        folder: A run with a checkpoint, or a folder of a public model, which needs `data`.
        draws: Noise draws per sequence, at least 2. Default: `eval.draws` of the run; 128 with `pairs`.
        sequences: Held-out sequences. Default: `eval.sequences` of the run.
        data: Path of another corpus, or of the run's own where it has moved. Default: the run's own.
        source: What kind of corpus `data` is, as `data.source` in a config. Default: the run's own.
        validation_path: Held-out files of `data`. Default: as the source holds out text.
        path: Text files to evaluate from beginning to end, as `data.path` in a config.
        protocol: "sedd" or "mdlm": cuts the text of `path` as published zero-shot perplexities do, with documents as
            lines or rows. The result has the protocol's rule and counts. Default: any text in full.
        detokenize: With `protocol`: "wikitext", "ptb", "lm1b", "lambada" or "scientific_papers", whose word
            tokenization is undone first. Default: the text as it is.
        field: The field with the text, of `data` or `path`. Default: `data.field` of the run.
        pairs: (prompt, answer) of each pair, or a .jsonl file with one object a line.
        classify: Of a run on digits: which of ten captions belongs to each held-out image, by likelihood.
        retrieve: Of a run of `unified`: which of this many held-out images belongs to a caption, and the reverse.
        neighbours: Of a run of `unified`: whether the images that it draws are copies of training images.
        prompt_field: The field of the objects with the prompt. Default: prompt.
        answer_field: The field with the answer. Default: answer.
        guidance: Weight of classifier-free guidance by the prompts of `pairs`. Default: no guidance.
        length: Tokens of a sequence. Default: those of a row in training.
        likelihood: "elbo" for the bound that the objective reports; "orders" for the importance bound of several random
            orders, tighter than the training bound; "left_to_right" or "confidence" for the exact likelihood of the
            sampler that decodes in this order. Default: what the objective reports.
        orders: Random orders of each sequence, an even number. Default: 64.

    Returns:
        Nats per token with their standard errors, perplexity and bits per byte (None where the data have no bytes).
        With `pairs`, nats per pair and per token, and `each`: those of each answer. With `classify` and
        `retrieve`, accuracies.

    Raises:
        UserError: There is no run, no checkpoint, no corpus, text or pairs to evaluate it on, or no such likelihood.
    """
    given = {name: value for name, value in locals().items() if name != "folder"}
    refuse_mixed(given)
    folder = pathlib.Path(folder)
    if pairs is not None:
        fields = {"prompt_field": prompt_field, "answer_field": answer_field}
        asked = {"likelihood": likelihood, "draws": draws, "orders": orders, "guidance": guidance}
        return evaluate_pairs(folder, pairs, **asked, **fields)
    if classify:
        return classify_run(folder, draws=draws, sequences=sequences)
    if retrieve is not None:
        return retrieve_run(folder, retrieve, draws=draws, sequences=sequences)
    if neighbours:
        return neighbours_of_run(folder, sequences=sequences)
    return runs_evaluate.evaluate_run(
        folder,
        draws=draws,
        sequences=sequences,
        data=DataOptions(data, source, validation_path, field, length),
        path=path,
        protocol=protocol,
        detokenize=detokenize,
        likelihood=likelihood,
        orders=orders,
    )


def open_run(folder: str | os.PathLike) -> Run:
    """Opens a trained run at its newest checkpoint, or a public model, on one device.

    Args:
        folder: A run with a checkpoint, or a folder of a public model.

    Returns:
        The run: its config, step, parameters (the moving average where one was kept) and objective parameters.

    Raises:
        UserError: There is no run or no checkpoint in the folder.
    """
    return restore.open_run(pathlib.Path(folder))


def sample(
    folder: str | os.PathLike,
    *,
    prompts: Sequence[str | Sequence[Mapping[str, str]]] = ("",),
    count: int = 1,
    length: int | None = None,
    new_tokens: int | None = None,
    sampler: str | None = None,
    mask_token: str = "",
    stop: int | str | None = None,
    seed: int = 0,
) -> list[Samples]:
    """Generates text from a trained run.

    Args:
        folder: A run with a checkpoint, or a folder of a public model.
        prompts: Texts to continue; the empty text is an unconditional sample. Or conversations to answer, each a list
            of messages such as {"role": "user", "content": "Hello"}: the model's chat template renders them, and an
            answer ends where the template ends one.
        count: Samples per prompt.
        length: Tokens per sample, prompt included. Default: the sequence length of training, or that of the prompt
            where it has masks.
        new_tokens: Tokens after each prompt, instead of `length`.
        sampler: A sampler with its settings, such as "confidence:rule=threshold,limit=0.9". Default: the usual one of
            the run's objective.
        mask_token: Text that stands for a mask in the prompts, such as "<mask>"; "<mask:5>" is five masks. Empty: none
            does.
        stop: The token id or the text that ends a sample. A single token is the sampler's own `stop`; a text of several
            tokens cuts what was drawn.
        seed: Seed of the random draws. The samples of a prompt do not depend on the other prompts.

    Returns:
        For each prompt, `count` samples.

    Raises:
        UserError: There is no run, or a prompt, a length or the sampler does not fit it. Nothing is drawn then.
    """
    run = restore.open_run(pathlib.Path(folder))
    request = request_of(
        run,
        prompts,
        sampler=sampler,
        count=count,
        length=length,
        new_tokens=new_tokens,
        mask_token=mask_token,
        fields=None if stop is None or isinstance(stop, str) else {"stop": stop},
        tokens={"stop": stop} if isinstance(stop, str) else None,
    )
    drawn = []
    for given, total in zip(request.prompts, request.lengths, strict=True):
        tokens, trace = draw(
            jax.random.key(seed), run.model, run.params, given, request.sampler, total, request.trained
        )
        drawn.append(Samples(_texts(run, np.asarray(tokens), np.asarray(trace.step), request.stop), tokens, trace))
    return drawn


def _texts(run: Run, tokens: np.ndarray, step: np.ndarray, stop: int | str | None) -> list[str]:
    """The text of each row, up to what ends it."""
    ends = [
        len(row) if stop is None else end_of_text(row, steps, stop, run.tokenizer)
        for row, steps in zip(tokens, step, strict=True)
    ]
    return [run.tokenizer.decode(row[:end]) for row, end in zip(tokens, ends, strict=True)]
