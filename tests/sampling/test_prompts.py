"""Prompts with masks, tokens named by text, and where a text ends."""

import numpy as np
import pytest

from mdlm_jax.cli.sample import _texts
from mdlm_jax.data.tokenizer import byte_tokenizer
from mdlm_jax.errors import UserError
from mdlm_jax.sampling.prompts import encode_prompt, end_of_text, token_ids

MASK = 300


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("ab", [97, 98]),
        ("", []),
        ("a<mask>b", [97, MASK, 98]),
        ("<mask:3>", [MASK] * 3),
        ("<mask><mask:2>a", [MASK] * 3 + [97]),
        ("<mask:>", [*b"<mask:>"]),
        ("<masks>", [*b"<masks>"]),
    ],
)
def test_masks_in_a_prompt(prompt, expected):
    ids = encode_prompt(prompt, byte_tokenizer(), MASK, "<mask>")
    assert ids.dtype == np.int32 and ids.tolist() == expected


def test_line_breaks_of_a_file_to_fill_are_kept(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a\r\n<mask>\r\n")
    assert _texts([tmp_path / "a.txt"]) == ["a\r\n<mask>"]


def test_undeclared_mask_token_is_text():
    assert encode_prompt("a<mask>", byte_tokenizer()).tolist() == list(b"a<mask>")
    assert encode_prompt("a[*]b[*:2]", byte_tokenizer(), MASK, "[*]").tolist() == [97, MASK, 98, MASK, MASK]


@pytest.mark.parametrize("prompt", ["<mask:0>", "<mask:100001>"])
def test_bad_mask_counts_are_refused(prompt):
    with pytest.raises(UserError, match="accepted: 1 to 100,000"):
        encode_prompt(prompt, byte_tokenizer(), MASK, "<mask>")


def test_tokens_by_id_and_by_text():
    assert token_ids("3+7", byte_tokenizer()) == (3, 7) and token_ids("12", byte_tokenizer()) == (12,)
    assert token_ids(". ", byte_tokenizer()) == (46, 32)


def test_end_of_text():
    tokens, step = np.frombuffer(b"a. b. c.", np.uint8).astype(np.int32), np.array([-1, -1, -1, 0, 1, 2, 3, 4])
    assert end_of_text(tokens, step, ord("."), byte_tokenizer()) == 4  # what is given does not end it
    assert end_of_text(tokens, step, ". c", byte_tokenizer()) == 4
    assert end_of_text(tokens, step, "c.", byte_tokenizer()) == 6
    assert (
        end_of_text(tokens, step, "d", byte_tokenizer()) == 8 == end_of_text(tokens, step, ord("d"), byte_tokenizer())
    )
