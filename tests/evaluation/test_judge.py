"""A judge with tokens of its own reads the same text: what it reads, and the sums of its nats."""

import math

import numpy as np
import pytest
import tokenizers

from mdlm_jax.data.tokenizer import byte_tokenizer, open_tokenizer, state_tokenizer
from mdlm_jax.errors import UserError
from mdlm_jax.evaluation.judge import BUCKET, judge_text, judge_tokens, pieces
from mdlm_jax.evaluation.quality import measure
from mdlm_jax.runs.restore import open_run
from mdlm_jax.sampling.compare_run import measure_of
from mdlm_jax.weights.load import load_weights
from tests.harness.models import LLADA, model_folder
from tests.weights.models import logits_of
from tests.weights.test_imported import CONFIGS, V, folder_of

WORDS = {"a": 0, "cat": 1, "sat": 2, "é": 3, "<unk>": 4, "</s>": 5}
END = 5
ROWS = [[0, 1, 2, 5, 3], [5, 1, 5, 5, 2]]
DRAWN = [[False, True, True, True, True], [True, True, True, True, False]]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(WORDS, "<unk>"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    model.add_special_tokens(["</s>"])
    path = tmp_path_factory.mktemp("words") / "tokenizer.json"
    model.save(str(path))
    return open_tokenizer(path)


def unigram(vocab):
    return -np.log(np.random.default_rng(0).dirichlet(np.ones(vocab)))


def test_pieces_join_to_the_row():
    generator = np.random.default_rng(0)
    for _ in range(200):
        row, drawn = generator.integers(0, 3, 12), generator.random(12) < 0.6
        found = list(pieces(row, drawn, 0))
        np.testing.assert_array_equal(np.concatenate([np.zeros(0, int), *(one.tokens for one in found)]), row[row != 0])
        expected = np.repeat([one.drawn for one in found], [len(one.tokens) for one in found])
        np.testing.assert_array_equal(expected, drawn[row != 0])
        assert [one.begins for one in found] == [_after_end(row, drawn, one) for one in _starts(row, drawn)]


def _starts(row, drawn):
    return [i for i in np.flatnonzero(row) if i == 0 or row[i - 1] == 0 or drawn[i] != drawn[i - 1]]


def _after_end(row, drawn, start):
    return start > 0 and row[start - 1] == 0


@pytest.mark.parametrize("reads_start", [True, False])
def test_what_the_judge_reads(words, reads_start):
    """Text by the byte; separators and given text are read and have no nats."""
    seen, cost = [], unigram(257)

    def nats_of(tokens):
        seen.append(tokens)
        return cost[tokens]

    found = judge_text(nats_of, byte_tokenizer(), reads_start, words, np.array(ROWS), np.array(DRAWN))
    first = [] if reads_start else [256]
    texts = [[*first, *b"a", *b"cat sat", 256, *"é".encode()], [*first, 256, *b"cat", 256, *b"sat"]]
    read = np.zeros((2, BUCKET), int)
    for row, text in zip(read, texts, strict=True):
        row[: len(text)] = text
    np.testing.assert_array_equal(seen, [read])
    scored = [list(b"cat sat" + "é".encode()), list(b"cat")]
    np.testing.assert_allclose(found.nats, [cost[ids].sum() for ids in scored])
    assert found.tokens.tolist() == found.bytes.tolist() == [9, 3]


def test_equal_tokens_need_no_text():
    """A judge without context says the same either way, and a token is a byte."""
    cost, tokenizer = unigram(257), byte_tokenizer()
    tokens = np.random.default_rng(1).integers(97, 123, (3, 20))
    drawn = np.arange(20) >= np.array([[0], [5], [20]])
    through_text = judge_text(lambda ids: cost[ids], tokenizer, True, tokenizer, tokens, drawn)
    directly = judge_tokens(lambda ids: cost[ids], tokenizer, tokens, drawn)
    for one, other in zip(through_text, directly, strict=True):
        np.testing.assert_allclose(one, other)
    assert directly.bytes.tolist() == [20, 15, 0]
    assert judge_tokens(lambda ids: cost[ids], None, tokens, drawn).bytes is None
    found = measure(tokens, drawn, 257, judge=lambda *row: judge_tokens(lambda ids: cost[ids], tokenizer, *row))
    assert found.judge_bits_per_byte.value == pytest.approx(found.judge_nats.value / math.log(2))


@pytest.mark.slow
def test_public_judge_of_a_public_model(tmp_path):
    """The nats of its logits for the text of each row, after its separator."""
    judged, judge = model_folder(tmp_path / "llada", LLADA), folder_of(tmp_path / "llama", CONFIGS["llama"])
    run = open_run(judged)
    tokens = np.stack([run.tokenizer.encode("the cat sat on the mat and the dog ate the hat of the man")[:12]] * 2)
    tokens[1, 6] = run.tokenizer.separator
    drawn = np.tile(np.arange(12) >= 4, (2, 1))
    found = measure_of(run, judge)(tokens, drawn)
    weights, nats, count = load_weights(judge), [], []
    reads, end = open_tokenizer(judge), 256
    for row in tokens:
        parts = [row[:4], row[4:6], row[6:]] if row[6] == run.tokenizer.separator else [row[:4], row[4:]]
        given, *rest = [reads.encode(run.tokenizer.decode(part)).tolist() for part in parts]
        ids = [end, *given, *rest[0], *([end, *rest[1]] if rest[1:] else [])]
        logits = logits_of(weights, [ids])[0].astype(np.float64)
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        each = [-logs[at - 1, ids[at]] for at in range(1 + len(given), len(ids)) if ids[at] != end]
        nats.append(sum(each))
        count.append(len(each))
    assert found.judge_nats.value == pytest.approx(sum(nats) / sum(count), rel=1e-4)
    assert found.judge_bits_per_byte.value == pytest.approx(sum(nats) / sum(count) / math.log(2), rel=1e-4)

    states = run._replace(tokenizer=state_tokenizer(V), vocab_size=V)
    with pytest.raises(UserError, match="its tokens are others"):  # numbers are no text that it could read
        measure_of(states, judge)
    with pytest.raises(UserError, match="objective masked; accepted: a run of ar"):
        measure_of(run, judged)
