"""The rows that a trained run is evaluated on."""

import pathlib
from typing import NamedTuple

import numpy as np

from mdlm_jax.build.rows import rows_of
from mdlm_jax.build.training import open_rows
from mdlm_jax.configs.relations import refuse_contradictions
from mdlm_jax.data import Example
from mdlm_jax.data.digest import corpus_digest
from mdlm_jax.data.files import expand, read_files
from mdlm_jax.data.pipeline import example_of
from mdlm_jax.data.rows import join
from mdlm_jax.errors import UserError
from mdlm_jax.objectives.base import loss_mask
from mdlm_jax.runs.evaluation_options import check_length
from mdlm_jax.runs.inputs import digest_of_corpus, read_inputs, tokenizer_name
from mdlm_jax.runs.restore import Run
from mdlm_jax.runs.run_folder import bytes_per_token
from mdlm_jax.runs.say import say


class DataOptions(NamedTuple):
    """A corpus other than the one in the run's config. None keeps what the config has."""

    path: str | None = None
    source: str | None = None
    validation_path: str | None = None
    field: str | None = None
    sequence_length: int | None = None  # tokens of a row, at most as many as in the run's own rows


OWN_DATA = DataOptions()


class HeldOut(NamedTuple):
    """Rows to evaluate a run on."""

    rows: Example
    bytes_per_token: float | None  # UTF-8 bytes of that text per token; None for a synthetic source
    described: dict  # source, path, number and digest of the rows, as the results show them


def open_held_out(
    run: Run, folder: pathlib.Path, sequences: int | None = None, options: DataOptions = OWN_DATA
) -> HeldOut:
    """The held-out rows of a run's corpus, or of the corpus that `options` name.

    Args:
        run: The opened run.
        folder: The run's folder.
        sequences: How many rows at most; None for the run's own number.
        options: Another corpus, or a new location of the run's own.

    Raises:
        UserError: The corpus is missing, or its tokenizer differs from the run's.
    """
    config = run.config.copy_and_resolve_references()
    if sequences is not None:
        config.eval.sequences = sequences
    config.data.tokenizer = tokenizer_name(config, folder)
    check_length(config, options.sequence_length)
    config.data.update({key: value for key, value in options._asdict().items() if value is not None})
    refuse_contradictions(config)
    if options.path is not None and options.validation_path is None:
        config.data.validation_path = ""  # that of the run's own corpus does not apply
    try:
        data = open_rows(config)
    except UserError as error:
        raise UserError(f"{error}; --data=PATH evaluates {folder} on a corpus at another path") from error
    if data.tokenizer.fingerprint != run.tokenizer.fingerprint:
        raise UserError(f"{config.data.path!r} needs another tokenizer than {folder}; accepted: the run's own")
    digest, inputs = digest_of_corpus(config), read_inputs(folder)
    described = {
        "source": config.data.source,
        "path": config.data.path,
        "validation_path": config.data.validation_path,
        "sequences": len(data.validation.tokens),
        "digest": digest,
        "trained_on": None if inputs is None else inputs.corpus == digest,  # None: the run is from before digests
    }
    if described["trained_on"] is False:
        say(f"the {config.data.source} corpus {config.data.path!r} is not the one that {folder} was trained on")
    return HeldOut(data.validation, bytes_per_token(data), described)


def open_text(run: Run, path: str, field: str | None = None, length: int | None = None) -> HeldOut:
    """All documents of text files, joined by the separator and cut into rows; padding fills the last row.

    Args:
        run: The run, opened for padded rows.
        path: Comma-separated files, folders and globs, as `data.path` of the source `text`.
        field: The field with the text; None for the run's own `data.field`.
        length: Tokens of a row; None for those of a row in training.

    Raises:
        UserError: The files cannot be read, or the run's tokens are no text.
    """
    config, tokenizer = run.config.copy_and_resolve_references(), run.tokenizer
    check_length(config, length)
    if tokenizer.separator < 0:
        raise UserError(f"--path={path}: the tokens of this run are no text; accepted: --data with --source=markov")
    if length is not None:
        config.data.sequence_length = length
        refuse_contradictions(config)
    field = config.data.field if field is None else field
    joined = join(read_files(expand("--path", path), field), tokenizer)
    if joined.skipped:
        say(f"--path={path}: {joined.skipped:,} rows without text are left out")
    width = config.data.sequence_length + config.data.extra_token
    count = -(-len(joined.tokens) // width)
    tokens = np.zeros(count * width, np.int32)
    tokens[: len(joined.tokens)] = joined.tokens
    rows = example_of(tokens.reshape(count, width), tokenizer.separator, config.data.keep_documents)
    rows.segments.reshape(-1)[len(joined.tokens) :] = 0
    rows = rows_of(config)(rows)
    if not loss_mask(rows).any():
        raise UserError(f"--path={path}: {len(joined.tokens)} tokens, none with a loss; accepted: a longer text")
    described = {"source": "text", "path": path, "sequences": count, "digest": corpus_digest("text", path, "", field)}
    return HeldOut(rows, joined.bytes / len(joined.tokens), described)
