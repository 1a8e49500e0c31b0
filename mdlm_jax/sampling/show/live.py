"""Rows filling in on a terminal while a sampler runs."""

import contextlib
import functools
import itertools
import operator
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Int
from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.text import Text

from mdlm_jax.data.tokenizer import Tokenizer
from mdlm_jax.sampling.show.render import EARLY, LATE, VISIBLE

REDRAW_SECONDS = 0.05
IDLE_SHARE = 9  # .. and at least so many times what a drawing takes: the view costs a tenth of the time at most
MASK = "░"
NO_TEXT = "\N{SYMBOL FOR RECORD SEPARATOR}"  # of a token that says nothing, such as the one between documents
BROKEN = "\N{REPLACEMENT CHARACTER}"
MOST_PARTS = 8  # tokens that spell one character between them


class Seen(NamedTuple):
    """The rows as they are, and since when."""

    tokens: Int[np.ndarray, "B L"]
    since: Int[np.ndarray, "B L"]  # evaluations before the token was there; -1 where it was given
    evaluation: int  # the one that reads the rows, from 1


Pieces = Callable[[np.ndarray], list[str | None]]


def make_pieces(tokenizer: Tokenizer, mask_id: int) -> Pieces:
    """A function of a row i32[L]: the text at each position, None for a mask.

    A character that several tokens spell is at the last of them, with '' at the others; a part whose neighbours are not
    there, or are others, is the replacement character. Control characters are shown as symbols, but for line breaks
    and tabs.
    """

    @functools.cache
    def alone(token: int) -> str:
        # behind a token, since some tokenizers write a space between two but none before the first
        return tokenizer.decode([token, token])[len(tokenizer.decode([token])) :]

    @functools.cache
    def together(parts: tuple[int, ...]) -> str:
        return tokenizer.decode(list(parts))

    def whole(row: list[int], start: int) -> list[str]:
        """The pieces of the character that begins at `start`, as many as it has tokens."""
        text = alone(row[start])
        if BROKEN not in text:
            return [text or NO_TEXT]
        for stop in range(start + 2, min(start + MOST_PARTS, len(row)) + 1):
            # all of them are parts: a whole token between two parts would leave both broken
            if row[stop - 1] == mask_id or BROKEN not in alone(row[stop - 1]):
                break
            if BROKEN not in (together_text := together(tuple(row[start:stop]))):
                return [""] * (stop - start - 1) + [together_text]
        return [text]

    def pieces(row: np.ndarray) -> list[str | None]:
        tokens, shown = row.tolist(), []
        while len(shown) < len(tokens):
            if tokens[len(shown)] == mask_id:
                shown.append(None)
            else:
                shown += [text.translate(VISIBLE) for text in whole(tokens, len(shown))]
        return shown

    return pieces


def look(seen: Seen | None, tokens: Int[Array | np.ndarray, "B L"], mask_id: int) -> Seen:
    """What is known with these rows, after what was `seen` before them (None: they are the first)."""
    tokens = np.array(tokens)
    if seen is None:
        # a row without a mask begins with random tokens, and which of them were given is unknown
        given = (tokens != mask_id) & (tokens == mask_id).any(axis=1, keepdims=True)
        return Seen(tokens, np.where(given, -1, 0), 1)
    since = np.where(tokens != seen.tokens, seen.evaluation, seen.since)
    return Seen(tokens, since, seen.evaluation + 1)


def picture(seen: Seen, pieces: Pieces, mask_id: int, width: int, height: int) -> Text:
    """A line of counts and the rows, `width` by `height` cells at most.

    Where the rows are too long each has an equal share of the lines, from the line above its first mask; where there
    are too many, the first are shown.
    """
    num_rows, num_tokens = seen.tokens.shape
    num_shown = min(num_rows, max(height - 1, 0))
    edge = len(str(num_rows - 1)) + 1 if num_rows > 1 else 0  # for the number of the row
    wrapped = [_wrap(pieces(seen.tokens[row]), _styles(seen, row), width - edge) for row in range(num_shown)]
    fits = sum(len(lines) for lines, _ in wrapped) < height
    hidden = int((seen.tokens == mask_id).sum())
    counts = f"evaluation {seen.evaluation}: {hidden} of {num_rows * num_tokens} tokens masked"
    if num_shown < num_rows:
        counts += f", {num_shown} of {num_rows} rows shown"
    shown = [Text(counts[:width], "dim")]
    for row, (lines, first_mask) in enumerate(wrapped):
        share = len(lines) if fits else (height - 1) // num_shown
        start = max(min(first_mask - 1, len(lines) - share), 0)
        for index, line in enumerate(lines[start : start + share]):
            label = f"{row if index == 0 else '':>{edge - 1}} " if edge else ""
            runs = itertools.groupby(line, key=operator.itemgetter(1))
            text = [("".join(character for character, _ in run), style) for style, run in runs]
            shown.append(Text.assemble((label, "dim"), *text))
    return Text("\n", no_wrap=True, overflow="crop").join(shown)


def _styles(seen: Seen, row: int) -> list[str]:
    """Of each position: given, or blue (early) to orange (just drawn)."""
    shade = np.maximum(seen.since[row], 0)[:, None] / max(seen.evaluation - 1, 1)
    colours = (EARLY + (LATE - EARLY) * shade).astype(int).tolist()
    return [
        "bold" if since < 0 else f"rgb({red},{green},{blue})"
        for since, (red, green, blue) in zip(seen.since[row].tolist(), colours, strict=True)
    ]


def _wrap(shown: list[str | None], styles: list[str], width: int) -> tuple[list[list[tuple[str, str]]], int]:
    """The row cut into lines, and the line of its first mask (the first line where there is none).

    Cut at any character, not between words: a position that is filled does not move the others.
    """
    lines, used, first_mask = [[]], 0, None
    for piece, style in zip(shown, styles, strict=True):
        if piece is None:
            piece, style = MASK, "dim"
            if first_mask is None:
                first_mask = len(lines) - 1 + (used >= width)
        for character in piece.replace("\t", " "):
            cells = cell_len(character)
            if character == "\n" or (used and used + cells > width):
                lines.append([])
                used = 0
            if character != "\n":
                lines[-1].append((character, style))
                used += cells
    return lines, first_mask or 0


@contextlib.contextmanager
def live_view(
    tokenizer: Tokenizer, mask_id: int, console: Console | None = None
) -> Iterator[Callable[[Int[Array | np.ndarray, "B L"]], None]]:
    """Gives the function `watch` of one call of a sampler: it takes the rows i32[B, L] before every evaluation.

    What is given is bold, the rest blue (early) to orange (just drawn). The view is gone when the context ends.
    Without a terminal (`console`: standard output) nothing is drawn.
    """
    console = console or Console()
    # colours that are forced upon a file do not make it a screen that can be drawn over
    if not (console.is_interactive and console.file.isatty()):
        yield lambda tokens: None
        return
    pieces, seen, not_before = make_pieces(tokenizer, mask_id), None, 0.0

    with Live(console=console, auto_refresh=False, transient=True) as live:

        def watch(tokens: Int[Array | np.ndarray, "B L"]) -> None:
            nonlocal seen, not_before
            seen = look(seen, tokens, mask_id)
            if (began := time.monotonic()) >= not_before:
                # a line stays free for the cursor
                live.update(picture(seen, pieces, mask_id, console.width, console.height - 1), refresh=True)
                ended = time.monotonic()
                not_before = ended + max(REDRAW_SECONDS, IDLE_SHARE * (ended - began))

        yield watch
