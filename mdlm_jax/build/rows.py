"""The rows of a corpus as an objective reads them: which tokens are a prompt, and which are dropped."""

from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from mdlm_jax.data import Batch, Example
from mdlm_jax.data.pipeline import Data


def rows_of(config: ConfigDict) -> Callable[[Example], Example]:
    """A function of a row that sets its prompt mask.

    With rows of L + 1 tokens (SMDM), `ar` has the first token in its prompt mask, and the other objectives drop the
    last.
    """
    prompt = config.data.prompt_tokens
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
    """A row of zeros with the shape of the corpus's rows, which a plan needs."""
    length = config.data.sequence_length + config.data.extra_token
    return Example(np.zeros(length, np.int32), np.ones(length, np.int32), np.zeros(length, bool))
