"""The verbs under `mdlm-jax data`: build a corpus or train a tokenizer."""

import argparse
import contextlib
import os
import sys


def add_data(verbs) -> None:
    """Adds `data` and the verbs under it to the command line."""
    data_verbs = verbs.add_parser("data", help="build a corpus or train a tokenizer").add_subparsers(required=True)
    verb = data_verbs.add_parser("build", help="tokenise a corpus once, into ArrayRecord shards")
    _add_source(verb)
    verb.add_argument("--out", required=True, help="a new folder, for data.source=tokens")
    verb.add_argument(
        "--tokenizer", default="bytes", help="bytes, a tokenizers .json, or a folder with one or with GPT-2's files"
    )
    verb.add_argument("--workers", type=int, default=os.cpu_count(), help="number of processes (default: one per core)")
    verb.set_defaults(run_verb=_build_corpus)
    verb = data_verbs.add_parser("tokenizer", help="train a byte-level BPE on a corpus")
    _add_source(verb)
    verb.add_argument("--out", required=True, help="a .json file")
    verb.add_argument("--size", type=int, required=True, help="tokens, at least 257")
    verb.set_defaults(run_verb=_train_tokenizer)


def _add_source(verb: argparse.ArgumentParser) -> None:
    """Adds the options that name the text, as the keys `data.*` of a config do."""
    verb.add_argument("--source", default="stdlib", help="stdlib | text | tfds")
    verb.add_argument(
        "--path", default="", help="text: files, globs and folders, separated by commas; tfds: name or folder"
    )
    verb.add_argument(
        "--validation-path", default="", help="text: held-out files; tfds: a split (default: the last 5%%)"
    )
    verb.add_argument("--field", default="text", help="the field with the text, such as meta.text (.txt has none)")


def _build_corpus(options) -> int:
    from mdlm_jax.data.build import build_corpus

    with _told("building the corpus"):
        manifest = build_corpus(
            options.out,
            source=options.source,
            path=options.path,
            validation_path=options.validation_path,
            field=options.field,
            tokenizer=options.tokenizer,
            workers=options.workers,
        )
    for split, counts in manifest["splits"].items():
        skipped = f", {counts['skipped']:,} rows without text left out" if counts["skipped"] else ""
        print(f"{options.out}: {split}: {counts['documents']:,} documents, {counts['tokens']:,} tokens{skipped}")
    return 0


def _train_tokenizer(options) -> int:
    from mdlm_jax.data.bpe import train_bpe
    from mdlm_jax.data.sources import open_documents

    documents = open_documents(options.source, options.path, options.validation_path, options.field)
    with _told("training the tokenizer"):
        trained = train_bpe(documents.train(), options.size, options.out)
    print(f"{options.out}: {trained.vocab_size:,} tokens")
    return 0


def _told(what: str) -> contextlib.AbstractContextManager[None]:
    """Reports a task where its progress bar does not: outside a terminal."""
    from mdlm_jax.runs.say import doing

    return contextlib.nullcontext() if sys.stdout.isatty() else doing(what, one_process=True)
