"""How rows came to be, evaluation after evaluation, as one page that plays it again."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jinja2
import numpy as np
from jaxtyping import Array, Int

from mdlm_jax.data.tokenizer import Tokenizer
from mdlm_jax.files import write_whole
from mdlm_jax.sampling.base import Trace
from mdlm_jax.sampling.show.live import Pieces, make_pieces
from mdlm_jax.sampling.show.render import EARLY, LATE

NAME = "replay"
MASK = -1  # in place of the index of a piece
DIGITS = 4  # of a log probability


def replay(
    frames: list[Int[Array | np.ndarray, "B L"]],
    tokens: Int[Array | np.ndarray, "B L"],
    trace: Trace,
    tokenizer: Tokenizer,
    mask_id: int,
    heading: Mapping[str, Any],
) -> dict[str, Any]:
    """What a page needs to play the sampling again, as JSON.

    `frames` are the rows before each evaluation of the network, `tokens` those after the last. Keys of the result:
    `heading`, text by name; `evaluations`, the number of frames; `rows`, each with
      pieces           [token, text] of all that is ever shown. Text depends on the neighbours where several tokens
                       spell a character, so a token may have several pieces
      start            the index in pieces at each position before the first evaluation; -1 for a mask
      changes          [evaluations done, position, index], in this order: what the position shows from then on
      given            1 where the token was given, else 0
      log_probability  nats of the token that stayed; null where none is known
      evaluations      times the network had to run for this row
    """
    states = [np.asarray(state) for state in (*frames, tokens)]
    step, nats = np.asarray(trace.step), np.asarray(trace.log_probability).astype(float)
    pieces = make_pieces(tokenizer, mask_id)
    rows = []
    for index, evaluations in enumerate(np.asarray(trace.evaluations).tolist()):
        row = [state[index] for state in states]
        # a position may have no step and yet be filled, behind the end of a text
        given = (step[index] < 0) & np.all([state == row[-1] for state in row], axis=0)
        known = (step[index] >= 0) & np.isfinite(nats[index])
        rows.append(
            _changes(row, pieces)
            | {
                "given": given.astype(int).tolist(),
                "log_probability": [
                    round(value, DIGITS) if is_known else None
                    for value, is_known in zip(nats[index].tolist(), known.tolist(), strict=True)
                ],
                "evaluations": evaluations,
            }
        )
    return {
        "heading": {name: str(value) for name, value in heading.items()},
        "evaluations": len(frames),
        "rows": rows,
    }


def _changes(states: list[np.ndarray], pieces: Pieces) -> dict[str, Any]:
    """Pieces, start and changes of one row."""
    table: dict[tuple[int, str], int] = {}

    def indices(state: np.ndarray) -> np.ndarray:
        shown = zip(state.tolist(), pieces(state), strict=True)
        return np.array(
            [MASK if text is None else table.setdefault((token, text), len(table)) for token, text in shown]
        )

    before, changes = indices(states[0]), []
    start = before.tolist()
    for evaluation in range(1, len(states)):
        if (states[evaluation] != states[evaluation - 1]).any():
            after = indices(states[evaluation])
            changed = np.flatnonzero(after != before)
            changes += [[evaluation, position, int(after[position])] for position in changed.tolist()]
            before = after
    return {"pieces": [list(piece) for piece in table], "start": start, "changes": changes}


def write_replay(folder: str | os.PathLike, replayed: Mapping[str, Any]) -> pathlib.Path:
    """Writes what `replay` gives to replay.json, and the page that shows it to replay.html, in `folder`, which is made
    where it is missing. Returns the path of the page."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    template = pathlib.Path(__file__).with_name(f"{NAME}.html").read_text(encoding="utf-8")
    page = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    early, late = (f"rgb({', '.join(map(str, colour))})" for colour in (EARLY, LATE))
    write_whole(folder / f"{NAME}.json", json.dumps(replayed, separators=(",", ":")))
    path = folder / f"{NAME}.html"
    write_whole(path, page.render(replay=replayed, early=early, late=late))
    return path
