"""From a corpus to `batch(step)`: rows of tokens in an order that depends only on the seed and the step."""

import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import grain
import numpy as np
from jaxtyping import Integer

from mdlm_jax.data import Batch, Example
from mdlm_jax.data.addressed import permuted, uniform
from mdlm_jax.data.captioned import CAPTIONED, open_captioned
from mdlm_jax.data.chat_rows import open_chats
from mdlm_jax.data.corpus import open_corpus
from mdlm_jax.data.encoded import encode_documents
from mdlm_jax.data.markov import open_markov
from mdlm_jax.data.rows import Splits, cut
from mdlm_jax.data.sources import DOCUMENTS
from mdlm_jax.data.tokenizer import Tokenizer, open_tokenizer
from mdlm_jax.errors import UserError

# The rows kept by `unique_tokens` and the validation rows are the same for every seed, so a study that is repeated with
# another seed uses the same data.
SUBSET_SEED = 0
UNBOUNDED = 2**62
AHEAD = 2**15  # tokens that are read at once, where a batch has fewer


class Data(NamedTuple):
    """A corpus as the training loop and the evaluation use it."""

    batch: Callable[[int], Batch]  # step -> this process's rows (numpy) of that step's global batch
    batches: Callable[[int], Iterator[Batch]]  # step -> the batches from that step on, prefetched by threads
    validation: Example  # held-out rows, the same on every process and for every seed
    vocab_size: int  # V, the separator included
    bytes_per_token: float  # UTF-8 bytes of the held-out text over its tokens, for bits per byte; 1 for `markov`
    unique_tokens: int  # in one epoch: rows times sequence_length
    max_steps: int | None  # steps that `epochs` allows; None: no limit
    tokenizer: Tokenizer


def open_data(
    *,
    source: str,
    path: str,
    validation_path: str,
    field: str,
    tokenizer: str,
    sequence_length: int,
    extra_token: bool,
    keep_documents: bool,
    random_length_rate: float,
    unique_tokens: int,
    epochs: int,
    seed: int,
    batch_size: int,
    validation_rows: int,
    padding: str = "packed",
    process_index: int = 0,
    process_count: int = 1,
) -> Data:
    """Opens a corpus.

    Each epoch is a new shuffle of the same rows, and epochs follow each other without a gap. Process p of P reads the
    p-th of P equal slices of each global batch, so any number of processes trains on the same batches.

    Args:
        source: `data.source`, as all keys up to `seed` are keys of `data` in configs/base.py.
        path: `data.path`.
        validation_path: `data.validation_path`.
        field: `data.field`.
        tokenizer: `data.tokenizer`.
        sequence_length: L, tokens of a row.
        extra_token: Rows have L + 1 tokens.
        keep_documents: Attention does not cross from one document of a row to the next.
        random_length_rate: With this probability a row keeps a uniform 1..L tokens; the rest become padding (SMDM,
            arXiv 2410.18514, appendix B.3).
        unique_tokens: Keeps the first rows of one fixed permutation, so that larger sets contain smaller ones; 0: all.
        epochs: Passes over the kept rows; 0: no limit.
        seed: The seed of the shuffles and of random lengths.
        batch_size: Rows of the global batch.
        validation_rows: Held-out rows, at most as many as there are.
        padding: `data.padding`, of conversations.
        process_index: Index p of this process.
        process_count: Number of processes P.

    Raises:
        UserError: A value is out of range, or the corpus cannot be read or is too small.
    """
    if sequence_length < 1 or batch_size < 1 or validation_rows < 1:
        raise UserError("data: sequence_length, batch_size and validation_rows must be at least 1")
    if batch_size % process_count:
        raise UserError(f"batch_size={batch_size} is not divisible by the {process_count} processes")
    if not 0 <= random_length_rate <= 1:
        raise UserError(f"data.random_length_rate={random_length_rate}: accepted are 0 to 1")
    if epochs < 0 or unique_tokens < 0:
        raise UserError(f"data.epochs={epochs}, data.unique_tokens={unique_tokens}: 0 (no limit) or more")
    length = sequence_length + extra_token
    splits = _open_splits(source, path, validation_path, field, tokenizer, padding, length)
    separator = splits.tokenizer.separator
    kept = _kept_rows(splits.train.count, unique_tokens, sequence_length)
    max_steps = epochs * kept // batch_size if epochs else None
    if max_steps == 0:
        raise UserError(f"data: {epochs} epochs of {kept} rows do not fill one batch of {batch_size}")
    share = batch_size // process_count
    index = np.arange(process_index * share, (process_index + 1) * share, dtype=np.int32)

    def several(first: int, num: int) -> Batch:
        """The batches of `num` steps, with an axis of steps first. Small batches take longer one by one."""
        if max_steps is not None and first + num > max_steps:
            last = first + num - 1
            raise UserError(f"step {last}: data.epochs={epochs} ends after {max_steps} steps of {batch_size} rows")
        step, number = np.repeat(np.arange(first, first + num), share), np.tile(index, num)
        # each epoch is a permutation of all rows
        epoch, position = np.divmod(step * batch_size + number, kept)
        rows = permuted(position, kept, seed, epoch)
        if unique_tokens:
            rows = permuted(rows, splits.train.count, SUBSET_SEED)
        example = example_of(splits.train.read(rows), separator, keep_documents)
        if random_length_rate:
            chosen, fraction = uniform(seed, step, number, np.array([[0], [1]]))
            kept_tokens = np.where(chosen < random_length_rate, 1 + np.floor(fraction * sequence_length), length)
            example.segments[np.arange(length) >= kept_tokens[:, None]] = 0
        return Batch(Example(*(field.reshape(num, share, -1) for field in example)), number.reshape(num, share))

    def batch(step: int) -> Batch:
        return _one(several(step, 1), 0)

    def batches(step: int) -> Iterator[Batch]:
        end = UNBOUNDED if max_steps is None else max_steps
        num = max(1, AHEAD // (share * length))
        firsts = grain.MapDataset.range(step, end, num).map(lambda first: several(first, min(num, end - first)))
        for read in firsts.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)):
            yield from (_one(read, i) for i in range(len(read.index)))

    held_out = np.arange(min(validation_rows, splits.validation.count))
    held_out = permuted(held_out, splits.validation.count, SUBSET_SEED)
    return Data(
        batch=batch,
        batches=batches,
        validation=example_of(splits.validation.read(held_out), separator, keep_documents),
        vocab_size=splits.tokenizer.vocab_size,
        bytes_per_token=splits.bytes_per_token,
        unique_tokens=kept * sequence_length,
        max_steps=max_steps,
        tokenizer=splits.tokenizer,
    )


def _one(batches: Batch, i: int) -> Batch:
    return Batch(Example(*(field[i] for field in batches.example)), batches.index[i])


def _open_splits(
    source: str, path: str, validation_path: str, field: str, tokenizer: str, padding: str, length: int
) -> Splits:
    if source == "chat":
        return open_chats(path, validation_path, tokenizer, padding, length)
    if source == "markov":
        return open_markov(path, length)
    if source in CAPTIONED:
        return open_captioned(source, path, length)
    if source == "tokens":
        return open_corpus(path, tokenizer, length)
    if source not in DOCUMENTS:
        raise UserError(
            f"data.source={source!r}; accepted: {', '.join(DOCUMENTS)}, tokens, markov, {', '.join(CAPTIONED)}, chat"
        )
    opened = open_tokenizer(tokenizer)
    train, validation = encode_documents(source, path, validation_path, field, opened)
    if skipped := train.skipped + validation.skipped:
        print(f"mdlm-jax: data.path={path!r}: {skipped:,} rows without text are left out", file=sys.stderr, flush=True)
    held_out_name = f"the held-out text of data.source={source!r}, {validation_path or path}"
    return Splits(
        train=cut(train.tokens, length, f"the training text of data.source={source!r}, {path}"),
        validation=cut(validation.tokens, length, held_out_name),
        bytes_per_token=validation.bytes / len(validation.tokens),
        tokenizer=opened,
    )


def _kept_rows(count: int, unique_tokens: int, sequence_length: int) -> int:
    """How many rows of the corpus training uses."""
    if not unique_tokens:
        return count
    kept = unique_tokens // sequence_length
    if not 0 < kept <= count:
        raise UserError(f"data.unique_tokens={unique_tokens} is {kept} rows of {sequence_length}; there are {count}")
    return kept


def example_of(tokens: Integer[np.ndarray, "n length"] | Example, separator: int, keep_documents: bool) -> Example:
    """Segments count documents within the row, from 1; the separator ends its document. Whole rows stay as they are."""
    if isinstance(tokens, Example):
        return tokens
    ends = (tokens == separator) & keep_documents
    segments = 1 + np.cumsum(ends, axis=1, dtype=np.int32) - ends
    return Example(tokens.astype(np.int32), segments, np.zeros(tokens.shape, bool))
