"""Samples as text for a terminal."""

import numpy as np
from jaxtyping import Array, Int
from rich.console import Console
from rich.text import Text

from mdlm_jax.data.tokenizer import Tokenizer
from mdlm_jax.sampling.base import Trace
from mdlm_jax.sampling.prompts import end_of_text
from mdlm_jax.sampling.show.pictures import Pictures

EARLY, LATE = np.array([70, 130, 255]), np.array([255, 150, 40])  # RGB of the first step and of the last
# a byte model may say what a terminal would obey: show control characters instead of sending them
VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
END = "\N{SYMBOL FOR END OF TEXT}"
VISIBLE |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)


def render(
    tokens: Int[Array | np.ndarray, "B L"],
    trace: Trace,
    tokenizer: Tokenizer,
    stop: int | str | None = None,
    pictures: Pictures | None = None,
) -> str:
    """The rows under a heading each. On a terminal, what was given is bold, the rest blue (early) to orange (late).

    A text that ends, by the token or the text `stop`, is shown up to there, with a symbol for its end. With `pictures`
    the image of a row stands under its text.
    """
    console = Console(highlight=False)
    with console.capture() as capture:
        rows = zip(np.asarray(tokens), np.asarray(trace.step), np.asarray(trace.evaluations), strict=True)
        for index, (row, step, evaluations) in enumerate(rows):
            console.print(Text(f"--- {index}: {evaluations} network evaluations", "dim"), soft_wrap=True)
            text, end = Text(), len(row) if stop is None else end_of_text(row, step, stop, tokenizer)
            for piece, position in _pieces(row[:end], tokenizer):
                text.append(piece.translate(VISIBLE), _style(int(step[position]), int(step.max())))
            if end < len(row):
                text.append(END, "dim")
            console.print(text, soft_wrap=True)
            if pictures is not None and (blocks := pictures.as_text(row, console.is_terminal)) is not None:
                console.print(blocks, soft_wrap=True)
    return capture.get()


def _style(step: int, last: int) -> str:
    if step < 0:
        return "bold"
    red, green, blue = (EARLY + (LATE - EARLY) * step / max(last, 1)).astype(int)
    return f"rgb({red},{green},{blue})"


def _pieces(row: np.ndarray, tokenizer: Tokenizer):
    """(text, position of the token that completes it): a character may need several tokens, and a token its
    neighbours."""
    shown = ""
    for position in range(len(row)):
        text = tokenizer.decode(row[: position + 1])
        if position == len(row) - 1 or not text.endswith("\N{REPLACEMENT CHARACTER}"):
            yield text[len(shown) :], position
            shown = text
