"""The inputs of a run besides its config: inputs.json and the tokenizer, in the run's folder.

With them a run can be sampled without its corpus, and is not resumed on another corpus by mistake.
"""

import hashlib
import json
import pathlib
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from mdlm_jax.build import Build
from mdlm_jax.build.objective import objective_source_digest
from mdlm_jax.config import differing_keys, from_json
from mdlm_jax.data.chat_template import template_digest
from mdlm_jax.data.digest import corpus_digest
from mdlm_jax.data.tokenizer import Tokenizer, open_tokenizer, save_tokenizer
from mdlm_jax.errors import UserError
from mdlm_jax.files import write_whole
from mdlm_jax.runs.records import read_record
from mdlm_jax.runs.saved import INPUTS as FILE_NAME

TOKENIZER = "tokenizer"  # folder with the tokenizer's files


class Inputs(NamedTuple):
    """One run's inputs, as inputs.json has them."""

    vocab_size: int  # V of the network
    tokenizer: str  # fingerprint
    corpus: str  # digest
    objective_source: str  # digest of the source of a user's own objective, process and schedule; else empty


def keep_inputs(config: ConfigDict, folder: pathlib.Path, built: Build) -> None:
    """Writes a run's inputs into its folder at the first start, and compares them at every later start.

    Raises:
        UserError: The run was started with other inputs, or the folder cannot be written.
    """
    if jax.process_index() > 0:
        return
    tokenizer = built.data.tokenizer
    inputs = Inputs(
        vocab_size=built.plan.architecture.vocab_size,
        tokenizer=tokenizer.fingerprint,
        corpus=digest_of_corpus(config),
        objective_source=objective_source_digest(config),
    )
    if (before := read_inputs(folder)) is not None:
        if changed := changes(before, inputs):
            raise UserError(
                f"{folder} was started with {'; '.join(changed)}; accepted: the same inputs, or another --run"
            )
        return
    try:
        save_tokenizer(tokenizer, folder / TOKENIZER)
        write_whole(folder / FILE_NAME, json.dumps(inputs._asdict(), indent=1) + "\n")
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); accepted: a folder to write to") from error


def read_inputs(folder: pathlib.Path) -> Inputs | None:
    """The inputs that a run keeps; None for a run from before runs kept them.

    Raises:
        UserError: The file is damaged.
    """
    return read_record(folder / FILE_NAME, Inputs, "the inputs of a run")


def changes(before: Inputs, now: Inputs) -> list[str]:
    """One clause for each input that has changed."""
    pairs = [(name.replace("_", " "), then, getattr(now, name)) for name, then in before._asdict().items()]
    return [f"another {name} ({str(then)[:12]}, now {str(value)[:12]})" for name, then, value in pairs if then != value]


def differing_from(folder: pathlib.Path, config: ConfigDict) -> list[str]:
    """`key: value of the run -> value`, for every key in which a config is another run than the one in `folder`.

    Execution keys do not count. Paths count only if the corpus or the tokenizer has another content.

    Raises:
        UserError: The run's files are damaged.
    """
    stored = from_json(folder / "config.json")
    differing, named = differing_keys(stored, config, paths=False), differing_keys(stored, config)
    return named if len(named) > len(differing) and not _same_content(folder, stored, config) else differing


def _same_content(folder: pathlib.Path, stored: ConfigDict, config: ConfigDict) -> bool:
    inputs = read_inputs(folder)
    try:
        corpus = digest_of_corpus(stored) if inputs is None else inputs.corpus
        if corpus != digest_of_corpus(config):
            return False
        if stored.data.tokenizer == config.data.tokenizer:
            return True
        kept = open_tokenizer(stored.data.tokenizer).fingerprint if inputs is None else inputs.tokenizer
        return kept == open_tokenizer(config.data.tokenizer).fingerprint
    except UserError:  # it is not where the path says
        return False


def digest_of_corpus(config: ConfigDict) -> str:
    """The digest of the content of a config's corpus, and of the chat template that writes its conversations."""
    data = config.data
    digest = corpus_digest(data.source, data.path, data.validation_path, data.field)
    if data.source != "chat":
        return digest
    return hashlib.sha256((digest + template_digest(open_tokenizer(data.tokenizer).files)).encode()).hexdigest()


def tokenizer_name(config: ConfigDict, folder: pathlib.Path) -> str:
    """The name under which `open_tokenizer` finds a run's tokenizer: the run's own folder, else that in its config."""
    kept = folder / TOKENIZER
    return str(kept) if kept.is_dir() else config.data.tokenizer


def kept_tokenizer(folder: pathlib.Path) -> Tokenizer | None:
    """The tokenizer that a run keeps; None for a run from before runs kept theirs.

    Raises:
        UserError: The tokenizer cannot be read, or is not the one that the run was trained with.
    """
    path, inputs = folder / TOKENIZER, read_inputs(folder)
    if inputs is None or not path.is_dir():
        return None
    tokenizer = open_tokenizer(path)
    if tokenizer.fingerprint != inputs.tokenizer:
        raise UserError(f"{path} is not the tokenizer that the run was trained with; accepted: the files as they were")
    return tokenizer
