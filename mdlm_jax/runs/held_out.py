"""The held-out rows that a trained run is evaluated on."""

import pathlib
from typing import NamedTuple

from mdlm_jax.build.training import open_rows
from mdlm_jax.data import Example
from mdlm_jax.errors import UserError
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
    """Rows of text that no step was trained on."""

    rows: Example
    bytes_per_token: float | None  # UTF-8 bytes of that text per token; None for a synthetic source
    described: dict  # source, path, number and digest of the rows, as the results show them


def open_held_out(
    run: Run, folder: pathlib.Path, sequences: int | None = None, options: DataOptions = OWN_DATA
) -> HeldOut:
    """The held-out rows of a run's corpus, or of the corpus that `options` name.

    Args:
        run: the run, opened.
        folder: the run's.
        sequences: how many rows at most; None for the run's own number.
        options: another corpus, or the run's own where it lies now.

    Raises:
        UserError: there is no such corpus, or its tokens are not the run's.
    """
    config = run.config.copy_and_resolve_references()
    if sequences is not None:
        config.eval.sequences = sequences
    config.data.tokenizer = tokenizer_name(config, folder)
    length, most = options.sequence_length, config.data.sequence_length
    if length is not None and (not 1 <= length <= most or (config.objective.block_size and length != most)):
        accepted = f"1 to {most}" if not config.objective.block_size else f"{most}, which its blocks were trained on"
        raise UserError(f"--length={length}; accepted: {accepted}")
    config.data.update({key: value for key, value in options._asdict().items() if value is not None})
    if options.path is not None and options.validation_path is None:
        config.data.validation_path = ""  # that of the run's own corpus does not apply
    try:
        data = open_rows(config)
    except UserError as error:
        raise UserError(f"{error}; to evaluate {folder} on a corpus that lies elsewhere: --data=PATH") from error
    if data.tokenizer.fingerprint != run.tokenizer.fingerprint:
        raise UserError(f"the tokens of {config.data.path!r} are not those of {folder}; accepted: its own tokenizer")
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
