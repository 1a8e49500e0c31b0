"""The leaderboard: paired differences by closed forms, items that are not the same, and its page in a browser."""

import json
import math

import numpy as np
import pytest
from scipy.stats import t as student

from mdlm_jax.cli.main import main
from mdlm_jax.errors import UserError
from mdlm_jax.harness.evaluate import RESULTS
from mdlm_jax.harness.lines import ITEMS
from mdlm_jax.report.leaderboard import read_board
from mdlm_jax.report.leaderboard_page import found
from tests.browser import drive, dump, result_of

RIGHT = {"a": "1111110111", "b": "1000001000", "c": "1000001000"}  # b and c are right on the same items
NATS = {"a": [5.0, 9.0, 2.0], "b": [7.0, 9.5, 4.0], "c": [6.0, 11.0, 2.5]}
BYTES = [4.0, 6.0, 2.0]
DRIVE = """<script>
setTimeout(() => {
  const button = document.querySelectorAll("#scores th button")[1];
  const names = () => [...document.querySelectorAll("#scores tbody tr")].map(row => row.cells[0].textContent);
  const result = document.createElement("pre");
  result.id = "result";
  button.click();
  result.textContent = JSON.stringify({
    drawn: [...document.querySelectorAll(".chart")].map(chart => chart.querySelectorAll("svg path").length),
    sorted: names(), width: document.documentElement.scrollWidth, window: innerWidth, wrong,
  });
  document.body.append(result);
}, 4000);
</script>"""


def folder_of(path, name):
    """What the harness writes of a model."""
    path.mkdir()
    better = {"choice": {"acc": True}, "text": {"bits_per_byte": False}}
    (path / RESULTS).write_text(json.dumps({"model": name, "objective": "ar", "higher_is_better": better}))
    items = [("choice", index, {"acc": [float(right), 1.0]}) for index, right in enumerate(RIGHT[name])]
    items += [
        ("text", index, {"bits_per_byte": list(pair)}) for index, pair in enumerate(zip(NATS[name], BYTES, strict=True))
    ]
    lines = [
        {"task": task, "item": index, "document": f"{task} {index}", "metrics": metrics}
        for task, index, metrics in items
    ]
    (path / ITEMS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def folders(tmp_path):
    return [folder_of(tmp_path / name, name) for name in RIGHT]


def test_differences(folders):
    """McNemar's variance of paired proportions, and the linearised ratio of paired sums."""
    board = read_board(folders)
    accuracy, bits = board.differences["a", "b"]
    wins, losses, n = 8, 1, 10
    error = math.sqrt((wins + losses - (wins - losses) ** 2 / n) / (n * (n - 1)))
    assert accuracy.value == pytest.approx((wins - losses) / n) and accuracy.standard_error == pytest.approx(error)
    assert accuracy.half_width == pytest.approx(student.ppf(0.975, n - 1) * error) and accuracy.excludes_zero
    gaps, weights = np.subtract(NATS["a"], NATS["b"]), np.array(BYTES)
    mean = gaps.sum() / weights.sum()
    error = math.sqrt(((gaps - mean * weights) ** 2).sum() * 3 / 2) / weights.sum()
    assert bits.value == pytest.approx(mean) and bits.standard_error == pytest.approx(error)
    same, _ = board.differences["b", "c"]
    assert same == (0, None, None) and not same.excludes_zero
    score = board.scores["a"][0]
    assert score.value == pytest.approx(0.9) and score.standard_error == pytest.approx(0.1)
    (sentence,) = [line for line in found(board) if line.startswith("choice")]
    assert "a is best with 0.9000 ± 0.2262, and better on the same items than b, c." in sentence


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lines: lines[:-1], "item 2 of text is in one of them alone"),
        (lambda lines: [lines[0].replace("choice 0", "another"), *lines[1:]], "item 0 of choice"),
        (lambda lines: ["{", *lines[1:]], "line 1: not an item"),
        (lambda lines: [], "no items"),
    ],
)
def test_other_items_are_refused(folders, damage, message):
    path = folders[1] / ITEMS
    path.write_text("".join(damage(path.read_text().splitlines(keepends=True))))
    with pytest.raises(UserError, match=message):
        read_board(folders)
    for wrong in ([folders[0], folders[0]], [folders[0].parent]):
        with pytest.raises(UserError, match="accepted: "):
            read_board(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("window", [(1400, 900), (500, 900)])
def test_page(folders, tmp_path, window):
    page = tmp_path / "page.html"
    with pytest.raises(SystemExit) as ended:
        main(["leaderboard", *map(str, folders), "--out", str(page)])
    assert not ended.value.code
    drive(page, DRIVE)
    dom, console = dump(page, tmp_path, milliseconds=6000, window=window)
    seen = result_of(dom)
    assert (console, seen["wrong"]) == ([], []) and seen["sorted"][2] == "a"
    assert len(seen["drawn"]) == 2 and min(seen["drawn"]) > 6 and seen["width"] <= seen["window"] == window[0]
