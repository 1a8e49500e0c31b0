"""Rows filling in on a terminal, against pictures worked out by hand."""

import io
import unicodedata

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from mdlm_jax.data.bpe import train_bpe
from mdlm_jax.data.tokenizer import byte_tokenizer, state_tokenizer
from mdlm_jax.sampling.show import live
from mdlm_jax.sampling.show.live import live_view, look, make_pieces, picture

V = 257


def row_of(text, hidden="_"):
    """Bytes of a text; `hidden` is a mask."""
    return np.array([V if byte == ord(hidden) else byte for byte in text.encode()], np.int32)


def seen_of(*texts):
    """One row, as it is in frame after frame."""
    seen = None
    for text in texts:
        seen = look(seen, row_of(text)[None], V)
    return seen


class Terminal(io.StringIO):
    def isatty(self):
        return True


def console_of(file, width=80, height=24):
    environment = {"TERM": "xterm-256color", "FORCE_COLOR": "1"}
    return Console(file=file, width=width, height=height, color_system="truecolor", _environ=environment)


def style_at(text, position):
    return [str(span.style) for span in text.spans if span.start <= position < span.end][-1]


def test_nothing_is_drawn_without_a_terminal():
    """Colour may be forced without one."""
    console = console_of(io.StringIO())
    assert console.is_terminal
    with live_view(byte_tokenizer(), V, console) as watch:
        watch(row_of("a__")[None])
    assert console.file.getvalue() == ""


def test_given_is_bold_and_colour_shows_the_step():
    shown = picture(seen_of("a____", "ab___", "abc__", "abcd_"), make_pieces(byte_tokenizer(), V), V, 80, 24)
    counts, row = shown.plain.split("\n")
    assert (counts, row) == ("evaluation 4: 1 of 5 tokens masked", "abcd░")
    start = len(counts) + 1
    styles = [style_at(shown, start + position) for position in range(5)]
    assert styles == ["bold", "rgb(131,136,183)", "rgb(193,143,111)", "rgb(255,150,40)", "dim"]


def test_row_that_begins_without_a_mask_is_noise():
    shown = picture(seen_of("xyz"), make_pieces(byte_tokenizer(), V), V, 80, 24)
    assert style_at(shown, shown.plain.index("xyz")) == "rgb(70,130,255)"


def test_remasked_tokens_are_new_when_they_return():
    assert seen_of("a__", "ab_", "a__", "a_c", "abc").since.tolist() == [[-1, 4, 3]]


def test_watched_array_may_be_reused():
    tokens, seen = row_of("a__")[None], None
    for position in range(3):
        tokens[0, position] = ord("z")
        seen = look(seen, tokens, V)
    assert seen.since.tolist() == [[-1, 1, 2]]


@pytest.mark.parametrize("taken, every", [(0.0, 4), (0.125, 72)])  # seconds of a drawing, frames to the next one
def test_drawing_rate_is_limited(monkeypatch, taken, every):
    now, drawn = 128.0, []

    def draw(seen, *rest):
        nonlocal now
        now += taken
        drawn.append(seen.evaluation)
        return ""

    monkeypatch.setattr(live.time, "monotonic", lambda: now)
    monkeypatch.setattr(live, "picture", draw)
    with live_view(byte_tokenizer(), V, console_of(Terminal())) as watch:
        for _ in range(200):
            watch(row_of("a__")[None])
            now += 1 / 64
    assert drawn == list(range(1, 201, every))


def test_view_restores_the_terminal():
    console = console_of(Terminal())
    with pytest.raises(KeyError), live_view(byte_tokenizer(), V, console) as watch:
        watch(row_of("one\ntwo__")[None])
        raise KeyError
    written = console.file.getvalue()
    assert "two" in written
    assert written.count("\x1b[2K") >= 3, "every line is cleared"
    assert written.count("\x1b[?25h") == 1, "the cursor is back"


def test_control_characters_do_not_reach_the_terminal():
    tokens = np.arange(V + 1, dtype=np.int32)[None]
    tokens = np.concatenate([tokens, np.array([[0xC2, 0x9B, 0x1B, 0x5B]], np.int32)], axis=1)
    plain = picture(look(None, tokens, V), make_pieces(byte_tokenizer(), V), V, 500, 24).plain
    assert not {c for c in plain if unicodedata.category(c) == "Cc"} - {"\n"}


@pytest.mark.parametrize("width", [1, 2, 3, 7, 80])
@pytest.mark.parametrize("height", [0, 1, 2, 3, 24])
@pytest.mark.parametrize("rows", [1, 3, 30])
def test_any_screen_size_works(width, height, rows):
    seen = look(None, np.tile(row_of("añ🙂_\t日本語\n\n___ and so on" * 3), (rows, 1)), V)
    lines = picture(seen, make_pieces(byte_tokenizer(), V), V, width, height).plain.split("\n")
    assert len(lines) <= max(height, 1)
    if width > 5:
        assert max(map(cell_len, lines)) <= width
    console = console_of(Terminal(), width, max(height, 1))
    with live_view(byte_tokenizer(), V, console) as watch:
        watch(seen.tokens)


def test_long_rows_scroll_to_the_latest_change():
    seen = look(None, row_of("abcdefghijkl_m" + "_" * 16)[None], V)
    assert picture(seen, make_pieces(byte_tokenizer(), V), V, 5, 4).plain.split("\n")[1:] == ["fghij", "kl░m░", "░░░░░"]
    assert picture(seen_of("abcdefghij"), make_pieces(byte_tokenizer(), V), V, 2, 3).plain.split("\n")[1:] == [
        "ab",
        "cd",
    ]


def test_rows_share_a_short_screen():
    seen = look(None, np.stack([row_of("abcdefgh____"), row_of("____abcdefgh")]), V)
    assert picture(seen, make_pieces(byte_tokenizer(), V), V, 6, 5).plain.split("\n")[1:] == [
        "0 efgh",
        "  ░░░░",
        "1 ░░░░",
        "  abcd",
    ]


@pytest.mark.parametrize(
    "tokens, expected",
    [
        ([0xC3, V, 0xB1], ["�", None, "�"]),
        ([0xC3, 0xB1, 97], ["", "ñ", "a"]),
        ([0xF0, 0x9F, 0x99, 0x82, 0x82], ["", "", "", "🙂", "�"]),
        ([0xF0, 0x9F, 0xC3, 0xB1], ["�", "�", "", "ñ"]),
        ([97, 0xC3, 98], ["a", "�", "b"]),
        ([256, 10, 27], ["␞", "\n", "␛"]),
    ],
)
def test_partial_characters(tokens, expected):
    assert make_pieces(byte_tokenizer(), V)(np.array(tokens)) == expected


def test_pieces_join_to_the_text_of_any_tokenizer(tmp_path):
    text = "Señor 🙂🙃 日本語 said – “no”, 日本 語.\n"
    bpes = [train_bpe([text], size, tmp_path / f"{size}.json") for size in range(260, 290, 4)]
    for tokenizer in (byte_tokenizer(), *bpes):
        tokens = np.asarray(tokenizer.encode(text), np.int32)
        assert "".join(make_pieces(tokenizer, tokenizer.vocab_size)(tokens)) == text
    assert make_pieces(state_tokenizer(20), 20)(np.array([3, 20, 14])) == [" 3", None, " 14"]
