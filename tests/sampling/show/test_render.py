"""Samples in the terminal."""

import numpy as np

from mdlm_jax.data.tokenizer import byte_tokenizer
from mdlm_jax.sampling import Trace
from mdlm_jax.sampling.show.render import render

TEXT = "añ🙂 b\n  c"


def trace_of(tokens, given=1):
    step = np.tile(np.maximum(np.arange(tokens.shape[1]) - given, -1), (len(tokens), 1))
    return Trace(step.astype(np.int32), np.zeros(tokens.shape, np.float32), np.full(len(tokens), 7, np.int32))


def tokens_of(*texts):
    return np.stack([byte_tokenizer().encode(text) for text in texts]).astype(np.int32)


def test_plain_text_without_a_terminal():
    tokens = tokens_of(TEXT, TEXT)
    shown = render(tokens, trace_of(tokens), byte_tokenizer())
    assert shown == "".join(f"--- {row}: 7 network evaluations\n{TEXT}\n" for row in range(2))


def test_control_characters_are_shown_as_symbols():
    tokens = np.array([[65, 27, 0, 13, 127, 0xC2, 0x9B, 66]], np.int32)  # with both spellings of the escape sequence
    assert render(tokens, trace_of(tokens), byte_tokenizer()).splitlines()[1] == "A␛␀␍␡�B"


def test_broken_characters_do_not_shift_the_rest():
    tokens = np.array([[0xC3, 65, 256, 66, 0xF0, 0x9F]], np.int32)
    assert render(tokens, trace_of(tokens), byte_tokenizer()).splitlines()[1] == "�AB�"


def test_colour_by_step_on_a_terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    tokens = tokens_of("abc")
    shown = render(tokens, trace_of(tokens), byte_tokenizer())
    for piece in ("\x1b[1ma\x1b[0m", "\x1b[38;2;70;130;255mb\x1b[0m", "\x1b[38;2;255;150;40mc\x1b[0m"):
        assert piece in shown
