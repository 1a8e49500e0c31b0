"""The verbs under `mdlm-jax data`: build a corpus or train a tokenizer."""

import argparse
import contextlib
import os
import sys

from mdlm_jax.cli.data_images import add_image_tokenizer, add_images_to_build, build, refuse_images_options
from mdlm_jax.cli.inputs import check_files
from mdlm_jax.errors import UserError

SOURCE_DEFAULTS = {"path": "", "validation_path": "", "field": "text"}


def add_data(verbs) -> None:
    """Adds `data` and the verbs under it to the command line."""
    data_verbs = verbs.add_parser("data", help="build a corpus or train a tokenizer").add_subparsers(required=True)
    verb = data_verbs.add_parser("build", help="tokenise a corpus once, into ArrayRecord shards")
    _add_source(verb)
    verb.add_argument("--out", required=True, help="a new folder, for data.source=tokens, or images with --images")
    verb.add_argument(
        "--tokenizer", default="bytes", help="bytes, a tokenizers .json, or a folder with one or with GPT-2's files"
    )
    verb.add_argument("--workers", type=int, help="number of processes (default: one per core)")
    add_images_to_build(verb)
    verb.set_defaults(run_verb=_build_corpus)
    verb = data_verbs.add_parser("tokenizer", help="train a byte-level BPE on a corpus")
    _add_source(verb)
    verb.add_argument("--out", required=True, help="a .json file")
    verb.add_argument("--size", type=int, required=True, help="tokens, at least 257")
    verb.set_defaults(run_verb=_train_tokenizer)
    add_image_tokenizer(data_verbs)


def _add_source(verb: argparse.ArgumentParser) -> None:
    """Adds the options that name the text, as the keys `data.*` of a config do."""
    verb.add_argument("--source", help="stdlib (default) | text | tfds")
    verb.add_argument("--path", help="text: files, globs and folders, separated by commas; tfds: name or folder")
    verb.add_argument("--validation-path", help="text: held-out files; tfds: a split (default: the last 5%%)")
    verb.add_argument("--field", help="field of the text or caption, such as meta.text (default: text; .txt has none)")


def _source(options) -> dict[str, str]:
    """The options that name the text. Raises UserError if the source does not read one of them."""
    given = {name: getattr(options, name) for name in SOURCE_DEFAULTS if getattr(options, name) is not None}
    source = "stdlib" if options.source is None else options.source
    if source == "stdlib" and given:
        name, value = next(iter(given.items()))
        option = f"--{name.replace('_', '-')}={value}"
        raise UserError(f"{option}: not read from --source=stdlib, the default; accepted: with --source=text or tfds")
    if source == "text":
        check_files("--path", options.path or "", options.field)
    return {"source": source} | SOURCE_DEFAULTS | given


def _build_corpus(options) -> int:
    refuse_images_options(options)
    if options.images is not None:
        with _told("building the corpus"):
            return build(options)
    source = _source(options)
    from mdlm_jax.data.build import build_corpus

    with _told("building the corpus"):
        manifest = build_corpus(
            options.out,
            **source,
            tokenizer=options.tokenizer,
            workers=os.cpu_count() or 1 if options.workers is None else options.workers,
        )
    for split, counts in manifest["splits"].items():
        skipped = f", {counts['skipped']:,} rows without text left out" if counts["skipped"] else ""
        print(f"{options.out}: {split}: {counts['documents']:,} documents, {counts['tokens']:,} tokens{skipped}")
    return 0


def _train_tokenizer(options) -> int:
    source = _source(options)
    from mdlm_jax.data.bpe import train_bpe
    from mdlm_jax.data.sources import open_documents

    documents = open_documents(**source)
    with _told("training the tokenizer"):
        trained = train_bpe(documents.train(), options.size, options.out)
    print(f"{options.out}: {trained.vocab_size:,} tokens")
    return 0


def _told(what: str) -> contextlib.AbstractContextManager[None]:
    """Reports a task where its progress bar does not: outside a terminal."""
    from mdlm_jax.runs.say import doing

    return contextlib.nullcontext() if sys.stdout.isatty() else doing(what, one_process=True)
