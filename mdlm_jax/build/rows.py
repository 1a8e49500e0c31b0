"""What an objective makes of the rows of a corpus: which tokens are given, and which are not there for it."""

from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from mdlm_jax.config import refuse
from mdlm_jax.data import Batch, Example
from mdlm_jax.data.pipeline import Data


def rows_of(config: ConfigDict) -> Callable[[Example], Example]:
    """A function of a row, by which its prompt is given. Of SMDM's rows of L + 1 tokens, `ar` is given the first, the
    others drop the last.

    Raises UserError where no token is left to learn.
    """
    prompt, length = config.data.prompt_tokens, config.data.sequence_length
    if length < 1:
        refuse("data.sequence_length", length, "at least 1")
    if not 0 <= prompt < length:
        refuse("data.prompt_tokens", prompt, f"0 to {length - 1}, below data.sequence_length")
    one_more = config.data.extra_token
    given = prompt + (one_more and config.objective.name == "ar")

    def of(row: Example) -> Example:
        if one_more and config.objective.name != "ar":
            row = Example(*(field[..., :-1] for field in row))
        return row._replace(prompt_mask=row.prompt_mask | (np.arange(row.tokens.shape[-1]) < given)) if given else row

    return of


def with_rows(data: Data, rows: Callable[[Example], Example]) -> Data:
    """The same data with every row passed through `rows`."""

    def of_batch(batch: Batch) -> Batch:
        return batch._replace(example=rows(batch.example))

    return data._replace(
        batch=lambda step: of_batch(data.batch(step)),
        batches=lambda step: map(of_batch, data.batches(step)),
        validation=rows(data.validation),
    )


def blank_row(config: ConfigDict) -> Example:
    """A row as the corpus has them, of zeros: a plan needs its shape."""
    length = config.data.sequence_length + config.data.extra_token
    return Example(np.zeros(length, np.int32), np.ones(length, np.int32), np.zeros(length, bool))
