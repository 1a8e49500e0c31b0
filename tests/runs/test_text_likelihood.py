"""Likelihood of any text and of answers given prompts, on the command line and in Python, on real runs."""

import argparse
import inspect
import json
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mdlm_jax as mj
from mdlm_jax.cli.evaluate import add_evaluate
from mdlm_jax.cli.main import main
from mdlm_jax.errors import UserError
from mdlm_jax.runs.evaluate import evaluate_run
from mdlm_jax.runs.held_out import DataOptions
from mdlm_jax.runs.pairs import evaluate_pairs
from mdlm_jax.runs.restore import open_run
from mdlm_jax.sampling.network import reading
from tests.runs.here import train_here

LENGTH = 16


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a run of `ar` and a run of `sedd`, on bytes."""
    home = tmp_path_factory.mktemp("likelihood")
    (home / "corpus.txt").write_text("Some text of a corpus.\n" * 200)
    data = {"data__source": "text", "data__path": str(home / "corpus.txt"), "data__tokenizer": "bytes"}
    for name in ("ar", "sedd"):
        train_here(home / name, steps=2, objective__name=name, **data)
    return home


def log_probabilities(run, tokens):
    """Of each token given those before it in the row."""
    read = jnp.append(run.vocab_size, tokens[:-1])[None]
    positions = jnp.arange(len(tokens))[None, :, None]
    hidden, _ = run.model.hidden(run.params, reading(read, positions, positions, jnp.zeros(1)), run.objective.mask)
    logs = jax.nn.log_softmax(run.model.head(run.params, hidden)[0])
    return np.asarray(jnp.take_along_axis(logs, jnp.asarray(tokens)[:, None], axis=1)[:, 0], np.float64)


def test_a_text_is_scored_from_beginning_to_end(trained, tmp_path):
    """Rows of 16 and the rest of the text in a last row; a separator after each of two documents."""
    first, second = "a line of text\n", "caf\u00e9 and more of it"
    (tmp_path / "text.jsonl").write_text("".join(json.dumps({"said": text}) + "\n" for text in (first, second)))
    main_options = ["--path", str(tmp_path / "text.jsonl"), "--field", "said", "--out", str(tmp_path / "out.json")]
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--run", str(trained / "ar"), *main_options])
    assert not ended.value.code
    found = json.loads((tmp_path / "out.json").read_text())
    tokens = np.array([*first.encode(), 256, *second.encode(), 256])
    rows = [tokens[start : start + LENGTH] for start in range(0, len(tokens), LENGTH)]
    assert len(rows[-1]) < LENGTH and found["data"]["sequences"] == len(rows)
    run = open_run(trained / "ar")
    nats = -sum(log_probabilities(run, row).sum() for row in rows)
    assert found["tokens"] == len(tokens) and found["nats_per_token"] == pytest.approx(nats / len(tokens), rel=1e-5)
    size = len((first + second).encode())
    assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / size, rel=1e-5)


def test_padding_is_not_seen(trained, tmp_path):
    """Noise that does not depend on the length of the row would make the two equal: here it agrees within its error."""
    (tmp_path / "text.txt").write_text("short text")
    padded, own = (
        evaluate_run(
            trained / "sedd",
            draws=400,
            sequences=None,
            path=str(tmp_path / "text.txt"),
            data=DataOptions(sequence_length=length),
        )
        for length in (None, 11)
    )
    assert padded["tokens"] == own["tokens"] == 11
    error = math.hypot(padded["monte_carlo_error"], own["monte_carlo_error"])
    assert padded["nats_per_token"] == pytest.approx(own["nats_per_token"], abs=4 * error)


def test_pairs_of_a_run(trained, tmp_path):
    rows = [
        {"prompt": "ab", "answer": "cde"},
        {"prompt": "", "answer": "f"},
        {"prompt": "caf\u00e9", "answer": "\u00e9"},
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = evaluate_pairs(trained / "ar", str(tmp_path / "pairs.jsonl"))
    run, expected = open_run(trained / "ar"), []
    for row in rows:
        prompt, answer = row["prompt"].encode(), row["answer"].encode()
        expected.append(-log_probabilities(run, np.array([*prompt, *answer]))[len(prompt) :].sum())
    assert [pair["tokens"] for pair in found["each"]] == [3, 1, 2]
    np.testing.assert_allclose([pair["nats"] for pair in found["each"]], expected, rtol=1e-5)
    assert found["bound"] == "exact" and not any(pair["standard_error"] for pair in found["each"])
    assert found["nats_per_pair"] == pytest.approx(np.mean(expected), rel=1e-5)
    error = np.std(expected, ddof=1) / math.sqrt(3)
    assert found["nats_per_pair_standard_error"] == pytest.approx(error, rel=1e-4)
    assert found["nats_per_token"] == pytest.approx(np.sum(expected) / 6, rel=1e-5)
    assert found["bits_per_byte"] == pytest.approx(np.sum(expected) / 6 / math.log(2), rel=1e-5)


def test_pairs_in_python(trained, tmp_path):
    """A list, and a file with fields of other names, one of them nested: the same numbers as from prompt and answer."""
    pairs, run = [("ab", "cde"), ("", "f")], trained / "ar"
    plain, other = tmp_path / "plain.jsonl", tmp_path / "other.jsonl"
    plain.write_text("".join(json.dumps({"prompt": prompt, "answer": answer}) + "\n" for prompt, answer in pairs))
    other.write_text("".join(json.dumps({"q": {"text": q}, "completion": a}) + "\n" for q, a in pairs))
    expected = evaluate_pairs(run, str(plain))
    named = {"prompt_field": "q.text", "answer_field": "completion"}
    assert mj.evaluate(run, pairs=plain) == expected
    assert mj.evaluate(run, pairs=pairs) == expected | {"path": None}
    assert mj.evaluate(run, pairs=str(other), **named) == expected | {"path": str(other)}
    options = ["--prompt-field", "q.text", "--answer-field", "completion", "--out", str(tmp_path / "out.json")]
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--run", str(run), "--pairs", str(other), *options])
    assert not ended.value.code
    assert json.loads((tmp_path / "out.json").read_text()) == expected | {"path": str(other)}


def test_python_has_every_option_of_the_command(trained, tmp_path):
    """`out` writes a file and `clip` has a function of its own."""
    verbs = argparse.ArgumentParser().add_subparsers()
    add_evaluate(verbs)
    options = {action.dest for action in verbs.choices["evaluate"]._actions} - {"help", "run", "out", "clip"}
    assert options == set(inspect.signature(mj.evaluate).parameters) - {"folder"}
    (tmp_path / "text.jsonl").write_text('{"said": "a line"}')
    found = mj.evaluate(trained / "ar", path=str(tmp_path / "text.jsonl"), field="said")
    assert found["tokens"] == len("a line") + 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs": []}, "accepted: (prompt, answer) of each pair"),
        ({"pairs": ["ab"]}, "pair 1: found 'ab'; accepted: (prompt, answer)"),
        ({"pairs": [("a", "b"), ["a"]]}, "pair 2: found ['a']; accepted: (prompt, answer)"),
        ({"pairs": [("a", "\ud800")]}, "pair 1, answer is not UTF-8"),
        ({"pairs": [("a", "b")], "answer_field": "b"}, "answer_field='b': these pairs have no fields"),
        ({"pairs": [("a", "b")], "data": "corpus.txt"}, "--pairs with --data; accepted: one of the two"),
        ({"pairs": [("a", "b")], "draws": 3}, "--draws=3 for each answer; accepted: an even number"),
        ({"guidance": 1.0}, "--guidance=1.0; accepted: with --pairs"),
        ({"prompt_field": "a"}, "--prompt-field=a; accepted: with --pairs"),
    ],
)
def test_wrong_options_in_python(trained, options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        mj.evaluate(trained / "ar", **options)


GOOD = '{"prompt": "a", "answer": "b"}'


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", [], "holds no pairs"),
        (f'{GOOD}\n{{"prompt": "a"}}', [], "line 2: found the fields prompt; accepted: an object"),
        (
            GOOD,
            ["--answer-field", "target"],
            "line 1: found the fields prompt, answer; accepted: an object with the fields prompt and target",
        ),
        (
            GOOD,
            ["--prompt-field", "prompt.text"],
            "found the fields prompt, answer; accepted: an object with the fields",
        ),
        ("[1]", [], "line 1: found list"),
        ("{", [], "line 1: not JSON"),
        ('{"prompt": "a", "answer": 3}', [], "line 1, answer: expected text, found int"),
        ('{"prompt": "a", "answer": ""}', [], "line 1: the answer is empty"),
        ('{"prompt": "a", "answer": "0123456789abcdef"}', [], "1 tokens of prompt and 16 of answer; accepted: 16"),
        (GOOD, ["--draws", "3"], "--draws=3 for each answer; accepted: an even number"),
        (GOOD, ["--guidance", "nan"], "--guidance=nan; accepted: a finite number"),
        (GOOD, ["--guidance", "1"], "sedd is not reported by a cross-entropy"),
        (GOOD, ["--sequences", "3"], "--pairs with --sequences; accepted: one of the two"),
        (GOOD, ["--path", "PAIRS"], "--path with --pairs"),
        (None, [], "no such file or folder"),
    ],
)
def test_wrong_pairs_are_one_line(trained, tmp_path, capfd, content, options, message):
    path = tmp_path / "pairs.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--run", str(trained / "sedd"), "--pairs", str(path), *options])
    told = capfd.readouterr().err.splitlines()
    assert ended.value.code == 2 and len(told) == 1 and message in told[0], told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--guidance", "1"], "--guidance=1.0; accepted: with --pairs"),
        (["--answer-field", "a"], "--answer-field=a; accepted: with --pairs"),
        (["--path", "/nowhere.txt", "--data", "a"], "--path with --data"),
        (["--path", "/nowhere.txt"], "--path: no file matches"),
        (["--path", "EMPTY"], "is empty"),
        (["--path", "", "--length", "17"], "--length=17; accepted: 1 to 16"),
    ],
)
def test_wrong_text_is_one_line(trained, tmp_path, capfd, options, message):
    (tmp_path / "empty.txt").touch()
    options = [option.replace("EMPTY", str(tmp_path / "empty.txt")) for option in options]
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--run", str(trained / "ar"), *options])
    told = capfd.readouterr().err.splitlines()
    assert ended.value.code == 2 and len(told) == 1 and message in told[0], told
