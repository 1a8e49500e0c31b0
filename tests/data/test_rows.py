"""Documents are joined and cut, and nothing is padded."""

import numpy as np
import pytest

from mdlm_jax.data.rows import cut, join
from mdlm_jax.data.tokenizer import byte_tokenizer, state_tokenizer
from mdlm_jax.errors import UserError


def test_a_separator_follows_every_document():
    joined = join(["", "ab", "é", ""], byte_tokenizer())
    assert joined.tokens.tolist() == [97, 98, 256, 0xC3, 0xA9, 256]
    assert joined.tokens.dtype == np.uint16
    assert joined[1:] == (4, 2, 2), "bytes, documents, rows without text"


@pytest.mark.parametrize(("vocab_size", "dtype"), [(255, np.uint8), (257, np.uint16), (100_000, np.uint32)])
def test_tokens_have_the_smallest_type(vocab_size, dtype):
    tokenizer = state_tokenizer(vocab_size)._replace(separator=vocab_size - 1)
    assert join(["0 1"], tokenizer).tokens.dtype == dtype


def test_rows_match_mdlm_group_texts():
    """MDLM's _group_texts (arXiv 2406.07524) at block 6: rows of 4 tokens between the two marks that it adds."""
    tokenizer = state_tokenizer(100)._replace(separator=99)
    tokens = join(["10 11 12", "20 21 22 23 24", "30 31"], tokenizer).tokens
    rows = cut(tokens, 4, "three documents")
    assert rows.count == 3
    assert rows.read(np.arange(3)).tolist() == [[10, 11, 12, 99], [20, 21, 22, 23], [24, 99, 30, 31]]


def test_rows_may_be_read_in_any_order():
    rows = cut(np.arange(20), 3, "numbers")
    assert rows.count == 6
    assert rows.read(np.array([5, 0])).tolist() == [[15, 16, 17], [0, 1, 2]]


def test_less_than_one_row_is_refused():
    with pytest.raises(UserError, match="short.txt: 5 tokens are fewer than one row of 6"):
        cut(np.arange(5), 6, "short.txt")
