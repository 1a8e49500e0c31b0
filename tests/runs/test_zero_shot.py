"""Zero-shot perplexity as published: rows and counts by hand, and numbers by the chain rule."""

import json
import math

import jax
import numpy as np
import pytest

from mdlm_jax.cli.main import main
from mdlm_jax.errors import UserError
from mdlm_jax.objectives.autoregressive import ar_without_start
from mdlm_jax.runs import evaluate as runs_evaluate
from mdlm_jax.runs.evaluate import evaluate_run
from mdlm_jax.runs.restore import open_run
from mdlm_jax.runs.zero_shot import cut, documents
from tests.runs.here import train_here

EOT = 256  # of bytes
TEXT = "ab\n\ncde\nf"
STREAM = [*b"ab\n", EOT, EOT, *b"cde\n", EOT, *b"f", EOT]  # 12 tokens, 8 bytes
SEDD = [STREAM[:5], STREAM[5:10]]
MDLM = [[EOT, *STREAM[start : start + 3], EOT] for start in (0, 3, 6, 9)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Networks whose tokens do not depend on each other, by a head of zeros with a bias of known probabilities."""
    home = tmp_path_factory.mktemp("zero_shot")
    (home / "corpus.txt").write_text("Some text of a corpus.\n" * 200)
    (home / "test.txt").write_text(TEXT)
    data = {"data__source": "text", "data__path": str(home / "corpus.txt"), "data__tokenizer": "bytes"}
    for name in ("ar", "masked"):
        train_here(home / name, steps=1, objective__name=name, model__head_bias=True, **data)
    return home


@pytest.fixture
def probabilities(trained, monkeypatch):
    """Of each token, whatever the others are."""
    found = np.random.default_rng(0).dirichlet(np.ones(257))

    def opened(folder, padded=False):
        run = open_run(folder, padded)
        params = jax.tree_util.tree_map_with_path(
            lambda path, leaf: np.log(found).astype(np.float32) if leaf.shape == (257,) else 0 * leaf, run.params
        )
        return run._replace(params=params)

    monkeypatch.setattr(runs_evaluate, "open_run", opened)
    return found


def evaluated(trained, name, protocol, **more):
    return evaluate_run(
        trained / name,
        draws=None,
        sequences=None,
        path=str(trained / "test.txt"),
        protocol=protocol,
        data=runs_evaluate.OWN_DATA._replace(sequence_length=5),
        **more,
    )


def test_lines_are_documents(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "b.jsonl").write_text('{"text": "x\\ny"}\n{"text": ""}\n{"text": null}\n')
    assert list(documents([tmp_path / "a.txt", tmp_path / "b.jsonl"], "text")) == [
        *("ab\n", "", "cde\n", "f"),
        *("x\ny", "", ""),
    ]


def test_rows_by_hand():
    stream = np.array(STREAM)
    np.testing.assert_array_equal(cut(stream, 5), SEDD)
    np.testing.assert_array_equal(cut(stream, 5, EOT), MDLM)
    assert cut(stream[:4], 5).shape == (0, 5)
    with pytest.raises(UserError, match="--length=2; accepted: 3 or more"):
        cut(stream, 2, EOT)


@pytest.mark.parametrize(
    ("name", "protocol", "scored", "own", "dropped"),
    [
        ("ar", "sedd", SEDD, 10, 2),
        ("ar", "mdlm", [row[1:] for row in MDLM], 12, 0),
        ("masked", "sedd", SEDD, 10, 2),
        ("masked", "mdlm", MDLM, 12, 0),
    ],
)
def test_perplexity_of_independent_tokens(trained, probabilities, name, protocol, scored, own, dropped):
    """Such a network has one likelihood in all orders: it is a product over the tokens that the protocol scores."""
    found = evaluated(trained, name, protocol, likelihood=None if name == "ar" else "left_to_right")
    scored = np.ravel(scored)
    nats = -np.log(probabilities[scored]).sum()
    assert found["tokens"] == len(scored) and found["bound"] == "exact"
    assert found["perplexity"] == pytest.approx(math.exp(nats / len(scored)), rel=1e-4)
    # 8 bytes of text lie in 12 tokens of the stream, `own` of which are scored
    assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / (8 / 12 * own), rel=1e-5)
    told = found["data"]["protocol"]
    assert told["name"] == protocol and told["row_length"] == 5 and told["separator"] == EOT
    assert (told["documents"], told["tokens"], told["dropped_tokens"]) == (4, 12, dropped)


def test_the_bound_is_that_of_independent_tokens_on_average(trained, probabilities):
    found = evaluated(trained, "masked", "mdlm")
    assert found["bound"] == "upper" and found["monte_carlo_error"] > 0
    nats = -np.log(probabilities[np.ravel(MDLM)]).mean()
    assert found["nats_per_token"] == pytest.approx(nats, abs=5 * found["monte_carlo_error"])


def test_rows_without_a_start_symbol(trained, monkeypatch):
    """Nothing predicts the first token of a row, as in public models."""

    def opened(folder, padded=False):
        run = open_run(folder, padded)
        run.config.data.extra_token = True
        return run._replace(objective=ar_without_start(257))

    monkeypatch.setattr(runs_evaluate, "open_run", opened)
    assert evaluated(trained, "ar", "sedd")["tokens"] == 8
    assert evaluated(trained, "ar", "mdlm")["tokens"] == 16


def test_command(trained, tmp_path, capsys):
    (tmp_path / "ptb.jsonl").write_text('{"sentence": "it is n\'t N N of 20"}\n')
    with pytest.raises(SystemExit) as ended:
        main(
            [
                *("evaluate", "--run", str(trained / "ar"), "--protocol", "sedd", "--detokenize", "ptb"),
                *("--path", str(tmp_path / "ptb.jsonl"), "--field", "sentence"),
            ]
        )
    assert not ended.value.code
    found = json.loads(capsys.readouterr().out)
    # "it isn't 1 1 of 20" has 18 bytes and a separator: one row of 16
    assert found["tokens"] == 16 and found["data"]["protocol"]["dropped_tokens"] == 3
    assert found["data"]["protocol"]["detokenize"] == "ptb"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--protocol=sedd; accepted: with --path"),
        (["--path", "PATH", "--protocol", "radd"], "--protocol=radd; accepted: sedd, mdlm"),
        (["--path", "PATH", "--detokenize", "c4"], "--detokenize=c4; accepted: wikitext, ptb, lm1b"),
        (["--path", "PATH", "--length", "17"], "--length=17; accepted: 1 to 16"),
        (["--path", "PATH", "--pairs", "PATH"], "--path with --pairs"),
        (["--path", "PATH"], "12 tokens fill no row of 16"),
    ],
)
def test_wrong_options_are_one_line(trained, capsys, options, message):
    options = [str(trained / "test.txt") if option == "PATH" else option for option in options]
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--run", str(trained / "ar"), "--protocol", "sedd", *options])
    told = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and len(told) == 1 and message in told[0], told
