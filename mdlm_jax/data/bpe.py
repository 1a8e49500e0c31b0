"""Trains a byte-level BPE."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future

import rich.progress
import tokenizers

from mdlm_jax.data.codec import END_OF_TEXT, byte_level
from mdlm_jax.data.tokenizer import Tokenizer, open_tokenizer
from mdlm_jax.data.words import pieces
from mdlm_jax.errors import UserError
from mdlm_jax.files import expand_home, write_whole


def train_bpe(documents: Iterable[str], size: int, path: str | os.PathLike) -> Tokenizer:
    """Trains a byte-level BPE and writes it to `path` as `tokenizers` JSON.

    Args:
        documents: The text; '' is left out.
        size: V, the separator included.
        path: The file, a .json.

    Returns:
        The tokenizer, as opened from `path`.

    Raises:
        UserError: `size` cannot hold the 256 bytes and the separator, or the text is too small for it.
    """
    path = expand_home(path)
    if size < 257:
        raise UserError(f"tokenizer size {size}: a byte-level BPE has at least 257 tokens, 256 bytes and a separator")
    if path.is_dir():
        raise UserError(f"tokenizer {path} is a folder; accepted: the name of a .json file")
    model = byte_level(tokenizers.models.BPE())
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    columns = ("{task.description}", rich.progress.TimeElapsedColumn(), "{task.completed:,} characters")
    with rich.progress.Progress(*columns) as progress:
        task = progress.add_task("read", total=None)

        def reported() -> Iterator[str]:
            for document in documents:
                # Words do not cross the ends of pieces, so their counts are those of the whole.
                yield from pieces(document)
                progress.update(task, advance=len(document))
            progress.update(task, description="merge")

        _interruptible(lambda: model.train_from_iterator(reported(), trainer))
    if model.get_vocab_size() < size:
        raise UserError(f"tokenizer size {size}: the text only yields {model.get_vocab_size()} tokens")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, model.to_str(pretty=True))
    except OSError as error:
        raise UserError(f"tokenizer {path} cannot be written ({error.strerror})") from error
    return open_tokenizer(str(path))


def _interruptible(function: Callable[[], None]) -> None:
    """Runs a long call of a library in another thread: while the main thread is in one, it does not see Ctrl-C."""
    done = Future()

    def run() -> None:
        try:
            done.set_result(function())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    done.result()
