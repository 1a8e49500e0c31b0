"""Comparisons of samplers whose costs are known."""

import json
import math
import time

import jax
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation
from rich.console import Console

from mdlm_jax.data.markov import markov_chain
from mdlm_jax.errors import UserError
from mdlm_jax.evaluation.quality import Estimate, Quality, measure
from mdlm_jax.sampling import Trace
from mdlm_jax.sampling.comparison import Contender, Measured, compare
from mdlm_jax.sampling.show.chart import draw_comparison, table, write_comparison

B, L, V, GIVEN = 4, 6, 5, 2


def contender(label, evaluations, first_seconds=0.0, seconds=0.0, log=None):
    """Random tokens after two given ones; the first call takes longer."""
    waits = iter([first_seconds])

    def draw(key):
        time.sleep(next(waits, seconds))
        if log is not None:
            log.append((label, jax.random.key_data(key).tolist()))
        tokens = jax.random.randint(key, (B, L), 0, V)
        step = np.tile(np.maximum(np.arange(L) - GIVEN, -1), (B, 1)).astype(np.int32)
        step[:, :GIVEN] = -1
        return tokens, Trace(step, np.zeros((B, L), np.float32), np.array(evaluations, np.int32))

    return Contender(label, draw, temperature=0.7, top_p=0.9, dtype="bfloat16")


def of_source(tokens, drawn):
    return measure(tokens, drawn, V, source=markov_chain(V, 1.0, 0))


def row(label="plan", evaluations=8.0, seconds=0.5, **quality):
    """A made-up row."""
    known = Quality(8, 48, Estimate(1.2, 0.01), Estimate(0.5, 0.02), **quality)
    return Measured(label, 1.0, None, "float32", 8, evaluations, seconds, 12.0, 3.0, known)


def text_of(rows):
    console = Console(width=400)
    with console.capture() as capture:
        console.print(table(rows))
    return capture.get()


def test_only_drawn_tokens_count_and_compilation_is_separate():
    slow = contender("slow", [2, 4, 4, 6], first_seconds=0.4, seconds=0.05)
    found, quick = compare([slow, contender("quick", [1] * B)], jax.random.key(0), of_source, repeats=2)
    assert found[:5] == ("slow", 0.7, 0.9, "bfloat16", B) and found.evaluations == 4
    assert found.quality.rows == 2 * B and found.quality.tokens == 2 * B * (L - GIVEN)
    assert found.first_call_seconds > 0.4 and 0.05 / B < found.seconds < found.first_call_seconds / B
    # two times the calls: tokens drawn in a second are those of a row by its seconds
    assert found.tokens_per_second == pytest.approx((L - GIVEN) / found.seconds)
    assert quick.evaluations == 1 and quick.quality == found.quality  # the keys, and so the tokens, are the same


def test_all_compile_before_timing_and_share_keys():
    log = []
    compare([contender(name, [1] * B, log=log) for name in "ab"], jax.random.key(0), of_source, repeats=2)
    assert [name for name, _ in log] == ["a", "b", "a", "a", "b", "b"]
    keys = [key for _, key in log]
    assert keys[0] == keys[1] and keys[2:4] == keys[4:6] and len(set(map(tuple, keys))) == 3


def test_comparison_is_written(tmp_path):
    rows = compare([contender("one", [3] * B), contender("two", [5] * B)], jax.random.key(0), of_source)
    write_comparison(rows, tmp_path / "new" / "folder")
    said = json.loads((tmp_path / "new" / "folder" / "compare.json").read_text())
    assert [each["label"] for each in said] == ["one", "two"] and said[0]["evaluations"] == 3
    assert said[0]["temperature"] == 0.7 and said[0]["top_p"] == 0.9 and said[0]["dtype"] == "bfloat16"
    assert said[0]["quality"]["entropy"] == rows[0].quality.entropy._asdict()
    assert said[0]["quality"]["judge_nats"] is None and said[0]["quality"]["perplexity"] is None
    assert (tmp_path / "new" / "folder" / "compare.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: can ?not be written .*; accepted: a folder"):
        write_comparison(rows, tmp_path / "file")


def test_infinity_in_json_and_figures(tmp_path):
    """It is null in JSON, an arrow in the figure and a sign in the table."""
    source = {"source_entropy": 1.9, "divergence": Estimate(math.inf, math.nan)}
    never = row(source_nats=Estimate(math.inf, math.nan), impossible=3, **source)
    rows = [never, row(source_nats=Estimate(2.0, 0.1), impossible=0, **source)]
    write_comparison(rows, tmp_path)
    said = json.loads((tmp_path / "compare.json").read_text())[0]["quality"]
    assert said["source_nats"] == {"value": None, "standard_error": None} and said["impossible"] == 3
    figure = draw_comparison(rows)
    assert sum(line.get_marker() == "^" for axis in figure.axes for line in axis.lines) == 2
    assert "3 tokens that the source never says" in figure.legends[0].get_texts()[0].get_text()
    assert "∞" in text_of(rows) and "impossible tokens" in text_of(rows)


def test_figure_shows_the_known_likelihood():
    """Under the source, else under the judge, else entropy."""
    judged, sourced = {"judge_nats": Estimate(3.0, 0.1)}, {"source_nats": Estimate(2.0, 0.1), "source_entropy": 1.9}
    for known, words in (({}, "entropy"), (judged, "the judge"), (judged | sourced, "the source")):
        figure = draw_comparison([row(**known)])
        assert words in figure.axes[0].get_ylabel() and len(figure.axes) == 2
        # how it was sampled, and the entropy, stand beside whatever is drawn
        name = figure.legends[0].get_texts()[0].get_text()
        assert name == "1   plan   (temperature 1, nucleus p 1, float32; entropy 1.200 ± 0.010)"


def test_point_labels_do_not_overlap():
    """Ten points lie almost on top of each other."""
    cost = np.random.default_rng(0).uniform(0.97, 1.03, (10, 3))
    rows = [row(f"plan {i}", 30 * a, 0.1 * b, judge_nats=Estimate(2.0 * c, 0.005)) for i, (a, b, c) in enumerate(cost)]
    figure = draw_comparison([*rows, row("far", 300.0, 2.0, judge_nats=Estimate(4.0, 0.1))])
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()
    for axis in figure.axes:
        traced = [text for text in axis.texts if isinstance(text, Annotation)]
        assert [text.get_text() for text in traced] == [str(i) for i in range(1, 12)]
        boxes = [super(Annotation, text).get_window_extent(renderer) for text in traced]
        markers = [axis.transData.transform(line.get_xydata()[0]) for line in axis.lines if len(line.get_xydata()) == 1]
        assert len(markers) == 11
        for position, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:position])
            assert not any(box.contains(*marker) for marker in markers)


def test_table_rows_show_how_they_were_sampled():
    rows = [row("one", judge_nats=Estimate(math.log(20), 0.1)), row("two", 16.0)._replace(top_p=0.9, dtype="bfloat16")]
    heading, one, two = text_of(rows).splitlines()
    for word in ("temperature", "nucleus p", "dtype", "evaluations", "entropy", "perplexity"):
        assert word in heading
    assert one.split()[:6] == ["1", "one", "1", "1", "float32", "8"] and "20" in one.split()
    assert two.split()[:6] == ["2", "two", "1", "0.9", "bfloat16", "16"]
    assert "source" not in heading and "1.200 ± 0.010" in one and "1.200 ± 0.010" in two
