"""Requests as tokens, and their scores against whole-row logits."""

import numpy as np
import pytest

import mdlm_jax as mj
from mdlm_jax.errors import UserError
from mdlm_jax.harness.answers import Answers, digest_of
from mdlm_jax.harness.reader import Reader, reader_of
from mdlm_jax.harness.requests import Scored, pair, windows
from mdlm_jax.harness.scoring import Scorer, scores
from mdlm_jax.runs.answer_nats import asked_of
from mdlm_jax.runs.restore import open_run
from mdlm_jax.weights.load import load_weights
from tests.harness.models import CHOICES, LLADA, LLAMA_SMALL, model_folder
from tests.weights.models import logits_of


def letters(text):
    return [ord(letter) - 96 if letter != " " else 0 for letter in text]


def test_blanks_belong_to_the_continuation():
    reader = Reader(letters, letters, prefix=99, most=6, decode=str, end=None)
    assert pair(reader, "ab  ", "c") == Scored((1, 2), (0, 0, 3))
    assert pair(reader, "", "ab") == Scored((99,), (1, 2))
    assert pair(reader._replace(prefix=1), "", "ab") == Scored((1,), (2,))
    assert pair(reader._replace(prefix=None), "", "ab") == Scored((), (1, 2))


def test_long_requests_lose_their_first_tokens():
    reader = Reader(letters, letters, prefix=99, most=6, decode=str, end=None)
    assert pair(reader, "abcdef", "gh") == Scored((3, 4, 5, 6), (7, 8))
    for answer in ("", "abcdef"):
        with pytest.raises(UserError, match="accepted: 1 to 5"):
            pair(reader, "a", answer)


@pytest.mark.parametrize("prefix", [None, 99])
@pytest.mark.parametrize("length", [1, 3, 4, 5, 7, 8, 13])
def test_windows_score_each_token_once(length, prefix):
    tokens = list(range(1, length + 1))
    found = windows(Reader(lambda text: tokens, letters, prefix, most=4, decode=str, end=None), "text")
    assert [token for window in found for token in window.answer] == tokens
    first, *others = found
    assert first.given == (() if prefix is None else (prefix,))
    for window in others:
        row = window.given + window.answer  # whole rows of the text, given one token or more
        assert len(row) == 4 and list(row) == tokens[row[0] - 1 : row[-1]] and window.given


def scorer_of(folder, out, batch_size=4, **asked):
    run = open_run(folder, padded=True)
    asked = asked_of(run, **(asked or {"draws": 4}))
    return Scorer(run, reader_of(folder, run), digest_of(run), Answers(out), asked, batch_size)


def test_exact_scores(tmp_path):
    folder = model_folder(tmp_path / "llama", LLAMA_SMALL)
    scorer = scorer_of(folder, tmp_path / "out")
    requests = [pair(scorer.reader, question, choice) for question, choices, _ in CHOICES for choice in choices]
    row = np.zeros((len(requests), 41), np.int32)
    for index, (given, answer) in enumerate(requests):
        row[index, : len(given) + len(answer)] = given + answer
    logits = logits_of(load_weights(folder), row).astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    # the first answer becomes the greedy one
    given = requests[0].given
    requests[0] = Scored(given, (int(log_p[0, len(given) - 1].argmax()),))
    row[0, len(given)] = requests[0].answer[0]
    found = scores(scorer, requests)
    for index, ((given, answer), score) in enumerate(zip(requests, found, strict=True)):
        at = np.arange(len(given) - 1, len(given) + len(answer) - 1)
        assert score.nats == pytest.approx(-log_p[index, at, row[index, at + 1]].sum(), abs=1e-4)
        assert score.greedy == (log_p[index, at].argmax(-1) == row[index, at + 1]).all()
        assert (score.standard_error, score.draws) == (0, 1)
    assert found[0].greedy and not all(score.greedy for score in found)


def test_the_noise_of_a_request_is_its_own(tmp_path):
    folder = model_folder(tmp_path / "llada", LLADA)
    scorer = scorer_of(folder, tmp_path / "out")
    requests = [pair(scorer.reader, question, choice) for question, choices, _ in CHOICES[:2] for choice in choices]
    found = scores(scorer, requests)
    alone = scores(scorer_of(folder, tmp_path / "alone", batch_size=1), requests[::-1])[::-1]
    for one, other in zip(found, alone, strict=True):
        assert one.nats == pytest.approx(other.nats, abs=1e-4)
        assert one.standard_error == pytest.approx(other.standard_error, abs=1e-4)
        assert one.greedy is None and one.draws == 4
    assert scores(scorer_of(folder, tmp_path / "out"), requests) == found


@pytest.mark.parametrize(
    "asked",
    [
        {"likelihood": "left_to_right", "guidance": -0.5},
        *(
            pytest.param(asked, marks=pytest.mark.slow)
            for asked in (
                {"likelihood": "elbo", "draws": 4},
                {"draws": 4, "guidance": 1.5},
                {"likelihood": "orders", "orders": 4, "guidance": 0.5},
                {"likelihood": "confidence"},
            )
        ),
    ],
)
def test_scores_equal_those_of_evaluate(tmp_path, asked):
    """The order of the pairs, their batches and their padding change nothing."""
    folder = model_folder(tmp_path / "llada", LLADA)
    pairs = [("the cat", " sat on the mat"), ("the", " dog"), ("a man who", "\nran at ten past two")]
    scorer = scorer_of(folder, tmp_path / "out", batch_size=2, **asked)
    found = scores(scorer, [pair(scorer.reader, *given) for given in pairs[::-1]])[::-1]
    expected = mj.evaluate(folder, pairs=pairs, **asked)
    for one, other in zip(found, expected["each"], strict=True):
        assert one.nats == pytest.approx(other["nats"], abs=1e-4) and one.tokens == other["tokens"]
        assert one.standard_error == pytest.approx(other["standard_error"], abs=1e-4)
        assert one.draws == expected["draws"] and one.greedy is None
    assert len({round(one.nats, 3) for one in found}) == 3 and expected["guidance"] == asked.get("guidance")
