"""Memory of the harness's adapter: nothing that it holds of a request grows with the request's length."""

import gc
import json
import tracemalloc

import pytest

from mdlm_jax.harness.answers import Answers
from mdlm_jax.harness.lines import Lines
from mdlm_jax.harness.reader import Reader
from mdlm_jax.harness.requests import Parts, windows

NUMBER = 200


@pytest.fixture
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


def held() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def test_tokens_are_not_held(traced):
    """Of texts of ten tokens and of a thousand the same bytes stay, and each part is that of a plain list."""

    def read(text):
        return [number + 1000 for number in range(len(text))]

    reader = Reader(read, read, prefix=None, most=8, decode=str, end=None)
    grown = []
    for length in (16, 8 * 128):
        texts = ["x" * length] * NUMBER
        before = held()
        parts = Parts(texts, lambda text: windows(reader, text))
        some = [parts[place] for place in (0, 1, len(parts) - 1)]
        grown.append(held() - before)
        whole = windows(reader, texts[0])
        assert some == [whole[0], whole[1], whole[-1]] and len(parts) == NUMBER * len(whole)
    alone = len(windows(reader, "x" * 8 * 128)) * 4000  # the parts of the one text that was read last
    assert grown[1] - grown[0] < alone


def test_answers_are_not_held(traced, tmp_path):
    """Only the place of each in the file: as much for long answers as for short ones."""
    grown = []
    for size in (1, 10_000):
        answers = Answers(tmp_path / str(size))
        before = held()
        for number in range(NUMBER):
            answers.add({f"{number:032}": {"drawn": "x" * size}})
        grown.append(held() - before)
        assert answers[f"{3:032}"] == {"drawn": "x" * size} and f"{NUMBER:032}" not in answers
        assert Answers(tmp_path / str(size)).places == answers.places
    assert abs(grown[1] - grown[0]) < 2000


class Task:
    """As much of a task of the harness as items need."""

    class Instance:
        def __init__(self, number):
            self.doc_id, self.filtered_resps = number, {"none": 0, "strict": 0}

    def __init__(self, count):
        self.instances = [self.Instance(number) for number in range(count) for _ in range(2)]

    def aggregation(self):
        def mean(values):
            return sum(values) / len(values)

        return {"acc": mean}

    def process_results(self, doc, results):
        return {"acc": results}


@pytest.mark.slow
def test_items_are_written_as_they_come(traced, tmp_path):
    """Two filters: after the last no item is held; of an item under the first only its numbers."""
    from mdlm_jax.harness.items import keep_items

    grown = []
    for size in (1, 10_000):
        task, lines = Task(NUMBER), Lines(tmp_path / f"{size}.jsonl")
        keep_items(task, "some", lines)
        before = held()
        for value in (0.0, 1.0):
            for number in range(NUMBER):
                task.process_results({"text": f"{number}" + "x" * size}, value)
        grown.append(held() - before)
        lines.finish()
        rows = [json.loads(line) for line in (tmp_path / f"{size}.jsonl").read_text().splitlines()]
        assert [row["item"] for row in rows] == list(range(NUMBER))
        assert len({row["document"] for row in rows}) == NUMBER
        assert {json.dumps(row["metrics"]) for row in rows} == {'{"acc": [0.0, 1.0], "acc, strict": [1.0, 1.0]}'}
    assert abs(grown[1] - grown[0]) < 2000
