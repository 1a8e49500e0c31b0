"""The replay of a sampling: the changes against the frames they were made of, and the page in a browser."""

import html
import json
import re

import numpy as np
import pytest

from mdlm_jax.data.tokenizer import byte_tokenizer
from mdlm_jax.sampling import Trace
from mdlm_jax.sampling.show.live import make_pieces
from mdlm_jax.sampling.show.replay import replay, write_replay
from tests.browser import drive, dump, result_of

V = 257
HOSTILE = "</script><b>x</b><!-- <script>\x1b[2J\x00\u2028&amp;'\" ñ🙂\n\n{{ 1 }}"

# what a person does, and what the page then shows
DRIVE = """<script>
const shown = [], press = key => document.body.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
for (let row = 0; row < data.rows.length; row++) {
  picker.value = row;
  picker.dispatchEvent(new Event("change"));
  shown.push([]);
  for (let evaluation = 0; evaluation <= data.evaluations; evaluation++) {
    slider.value = evaluation;
    slider.dispatchEvent(new Event("input"));
    shown[row].push(spans.map(span => span.className.includes("mask") ? null : span.textContent));
  }
}
const moves = ["Home", "ArrowRight", "ArrowRight", "ArrowLeft", "End", "ArrowRight"].map(key => {
  press(key);
  return slider.valueAsNumber;
});
spans[0].dispatchEvent(new PointerEvent("pointerover", {bubbles: true}));
const told = detail.value;
speed.value = 64;
play.click();
const playing = [play.textContent, slider.valueAsNumber];
const result = document.createElement("pre");
result.id = "result";
setTimeout(() => {
  const ended = [play.textContent, slider.valueAsNumber];
  const requests = performance.getEntriesByType("resource").map(entry => entry.name);
  result.textContent = JSON.stringify({shown, moves, told, playing, ended, wrong, requests});
  document.body.append(result);
}, 1000);
</script>"""


def trace_of(tokens, step, log_probability=-0.5):
    shape = np.shape(tokens)
    return Trace(
        np.broadcast_to(np.asarray(step, np.int32), shape),
        np.broadcast_to(np.asarray(log_probability, np.float32), shape),
        np.full(shape[0], 5, np.int32),
    )


def random_frames(seed, num_frames=9, shape=(3, 24)):
    """Rows of which a third changes at every evaluation, tokens and masks alike; parts of characters are common."""
    rng = np.random.default_rng(seed)
    letters = np.array([V, V, 65, 0xC3, 0xB1, 0xF0, 0x9F, 0x99, 0x82, 10, 27, 256], np.int32)
    frames = [rng.choice(letters, shape)]
    for _ in range(num_frames):
        frames.append(np.where(rng.random(shape) < 1 / 3, rng.choice(letters, shape), frames[-1]))
    return frames


def shown_by(row, num_frames):
    """(tokens, texts) after 0, 1, .. evaluations, None for a mask, by the changes alone."""
    positions, states = list(row["start"]), []
    for evaluation in range(num_frames + 1):
        for now, position, index in row["changes"]:
            if now == evaluation:
                positions[position] = index
        known = [row["pieces"][index] if index >= 0 else [V, None] for index in positions]
        states.append(tuple(map(list, zip(*known, strict=True))))
    return states


@pytest.mark.parametrize("seed", range(20))
def test_changes_reproduce_every_frame(seed):
    *frames, tokens = random_frames(seed)
    replayed = json.loads(json.dumps(replay(frames, tokens, trace_of(tokens, 0), byte_tokenizer(), V, {})))
    pieces = make_pieces(byte_tokenizer(), V)
    for index, row in enumerate(replayed["rows"]):
        states = shown_by(row, len(frames))
        assert [state[0] for state in states] == [frame[index].tolist() for frame in (*frames, tokens)]
        assert [state[1] for state in states] == [pieces(frame[index]) for frame in (*frames, tokens)]
        assert row["changes"] == sorted(row["changes"]), "in the order of time"


def test_only_changes_are_stored():
    frames = [np.array([[65, V, V]], np.int32), np.array([[65, V, 66]], np.int32)]
    tokens = np.array([[65, 67, 66]], np.int32)
    replayed = replay(
        frames, tokens, trace_of(tokens, [-1, 1, 0], [0, -0.123456, -np.inf]), byte_tokenizer(), V, {"a": 1.5}
    )
    row = {
        "pieces": [[65, "A"], [66, "B"], [67, "C"]],
        "start": [0, -1, -1],
        "changes": [[1, 2, 1], [2, 1, 2]],
        "given": [1, 0, 0],
        "log_probability": [None, -0.1235, None],
        "evaluations": 5,
    }
    assert replayed == {"heading": {"a": "1.5"}, "evaluations": 2, "rows": [row]}


def test_filled_positions_after_the_end_are_not_given():
    tokens = np.array([[65, 256]], np.int32)
    trace = trace_of(tokens, [-1, -1])
    assert replay([np.array([[65, V]], np.int32)], tokens, trace, byte_tokenizer(), V, {})["rows"][0]["given"] == [1, 0]


def test_replay_without_evaluations():
    tokens = np.array([[65, 66]], np.int32)
    replayed = replay([], tokens, trace_of(tokens, -1), byte_tokenizer(), V, {})
    assert (replayed["evaluations"], replayed["rows"][0]["changes"]) == (0, [])


def hostile_replay():
    """Two rows of hostile text, filled in a random order, some of it hidden again."""
    rng = np.random.default_rng(0)
    tokens = np.stack([byte_tokenizer().encode(HOSTILE), byte_tokenizer().encode(HOSTILE)[::-1]]).astype(np.int32)
    when = rng.integers(1, 9, tokens.shape)
    frames = [np.where(when <= index, tokens, V).astype(np.int32) for index in range(9)]
    frames[4][:, ::5] = V
    frames[6][:, ::7] = 0xC3
    heading = {"sampler": HOSTILE}
    return frames, tokens, replay(frames, tokens, trace_of(tokens, when - 1), byte_tokenizer(), V, heading)


def test_text_cannot_escape_the_data(tmp_path):
    _, _, replayed = hostile_replay()
    path = write_replay(tmp_path / "made" / "here", replayed)
    page = path.read_text(encoding="utf-8")
    assert json.loads((path.parent / "replay.json").read_text()) == replayed
    assert page.count("</script>") == page.count("<script") == 2 and "<b>x" not in page
    embedded = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1]
    assert json.loads(embedded) == replayed
    assert not re.search(r"https?:|//[a-z]", page), "no address of anything outside the file"


def test_page_in_a_browser(tmp_path):
    frames, tokens, replayed = hostile_replay()
    page = write_replay(tmp_path, replayed)
    drive(page, DRIVE)
    dom, console = dump(page, tmp_path)
    result = result_of(dom)
    assert (console, result["wrong"], result["requests"]) == ([], [], [])
    for index, shown in enumerate(result["shown"]):
        assert shown == [state[1] for state in shown_by(replayed["rows"][index], len(frames))]
    assert "".join(result["shown"][0][-1]) == HOSTILE.replace("\x1b", "␛").replace("\x00", "␀")
    assert result["moves"] == [0, 1, 2, 1, 9, 9]
    assert result["told"].startswith('Position 0: token 125, "}", unmasked by evaluation ')
    assert result["told"].endswith(", probability 0.607")
    assert (result["playing"], result["ended"]) == (["Pause", 0], ["Play", 9])


def test_page_opens_with_the_final_text(tmp_path):
    _, _, replayed = hostile_replay()
    dom, console = dump(write_replay(tmp_path, replayed), tmp_path)
    shown = re.findall(r'<span data-position="\d+"[^>]*>(.*?)</span>', dom, re.DOTALL)
    expected = shown_by(replayed["rows"][0], replayed["evaluations"])[-1][1]
    assert [html.unescape(text) for text in shown] == expected
    assert console == []
