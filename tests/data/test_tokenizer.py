"""Every tokenizer gives the text back, and none writes a separator into a document."""

import json

import numpy as np
import pytest
import tokenizers

from mdlm_jax.data.bpe import train_bpe
from mdlm_jax.data.tokenizer import byte_tokenizer, open_tokenizer, save_tokenizer, state_tokenizer
from mdlm_jax.errors import UserError
from mdlm_jax.weights.source import Source
from mdlm_jax.weights.text import open_text
from tests.public_data import write_gpt2

TEXTS = [
    "",
    "Hello world",
    "  two spaces,\ttab\r\n\n and a \x00 NUL \f",
    "naïve Ωμέγα 漢字かな 👩‍👩‍👧 \U0010ffff",
    "<|endoftext|> </s> <eos> [SEP]",
]


def check_round_trip(tokenizer):
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.separator not in ids and (ids < tokenizer.vocab_size).all()
        assert tokenizer.decode(np.append(ids, tokenizer.separator)) == text


def test_bytes():
    tokenizer = byte_tokenizer()
    check_round_trip(tokenizer)
    assert tokenizer.vocab_size == 257 and tokenizer.separator == 256
    assert tokenizer.encode("aé").tolist() == [97, 0xC3, 0xA9]
    assert tokenizer.decode(np.array([97, 0xC3])) == "a\ufffd"


def test_gpt2(tmp_path):
    """The ids match OpenAI's encoder."""
    tokenizer = open_tokenizer(str(write_gpt2(tmp_path)))
    check_round_trip(tokenizer)
    assert tokenizer.vocab_size == 50257 and tokenizer.separator == 50256
    assert tokenizer.encode("Hello world").tolist() == [15496, 995]
    assert tokenizer.encode(" the, isn't").tolist() == [262, 11, 2125, 470]


def test_gpt2_under_its_other_names(tmp_path_factory):
    original, renamed = (
        open_tokenizer(str(write_gpt2(tmp_path_factory.mktemp("gpt2"), *names)))
        for names in (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))
    )
    assert renamed.encode(TEXTS[3]).tolist() == original.encode(TEXTS[3]).tolist()
    assert renamed.fingerprint == original.fingerprint


def test_trained_bpe(tmp_path):
    path = tmp_path / "bpe.json"
    tokenizer = train_bpe(["low lower lowest " * 20, "newer wider " * 20], 270, path)
    check_round_trip(tokenizer)
    assert tokenizer.vocab_size == 270
    assert len(tokenizer.encode("lower lower")) < len("lower lower") / 2
    assert tokenizer.fingerprint == open_tokenizer(str(path)).fingerprint
    assert tokenizer.fingerprint != byte_tokenizer().fingerprint
    assert [file.name for file in tmp_path.iterdir()] == ["bpe.json"]


def test_json_without_a_separator_gets_one(tmp_path):
    model = tokenizers.models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?")
    model = tokenizers.Tokenizer(model)
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    model.enable_padding(length=8)
    model.enable_truncation(max_length=2)
    model.save(str(tmp_path / "words.json"))
    tokenizer = open_tokenizer(str(tmp_path / "words.json"))
    assert (tokenizer.vocab_size, tokenizer.separator) == (4, 3)
    assert tokenizer.encode("a b b").tolist() == [0, 1, 1], "neither padded nor truncated"


def test_json_post_processor_is_ignored(tmp_path):
    train_bpe(["abc " * 10], 258, tmp_path / "plain.json")
    model = tokenizers.Tokenizer.from_file(str(tmp_path / "plain.json"))
    end = ("<|endoftext|>", model.token_to_id("<|endoftext|>"))
    model.post_processor = tokenizers.processors.TemplateProcessing(single="$A <|endoftext|>", special_tokens=[end])
    model.save(str(tmp_path / "marks.json"))
    check_round_trip(open_tokenizer(str(tmp_path / "marks.json")))


def test_states():
    tokenizer = state_tokenizer(12)
    ids = tokenizer.encode("0 11 3")
    assert ids.tolist() == [0, 11, 3] and tokenizer.decode(ids) == "0 11 3"


def test_saved_tokenizer_is_the_same(tmp_path):
    train_bpe(["low lower lowest " * 20], 262, tmp_path / "bpe.json")
    folder = str(write_gpt2(tmp_path))
    opened = [byte_tokenizer(), state_tokenizer(7), open_tokenizer(tmp_path / "bpe.json"), open_tokenizer(folder)]
    for number, tokenizer in enumerate(opened):
        save_tokenizer(tokenizer, tmp_path / f"saved/{number}")
        again = open_tokenizer(tmp_path / f"saved/{number}")
        assert again[3:] == tokenizer[3:], "V, separator, fingerprint and files"
        text = "1 6 0" if tokenizer.separator == -1 else "low lower 漢字"
        assert again.encode(text).tolist() == tokenizer.encode(text).tolist()
        assert again.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("name", ["tokenizer.model", "spiece.model", "qwen.tiktoken"])
def test_formats_that_are_not_read(tmp_path, name):
    """By its own name, in a tokenizer's folder and beside weights; a tokenizer.json beside it is read."""
    file = tmp_path / name
    file.write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    source = Source._make([tmp_path, {}, None, {}, {}, {}, "llama"])
    for open_it in (lambda: open_tokenizer(file), lambda: open_tokenizer(tmp_path), lambda: open_text(source)):
        with pytest.raises(
            UserError, match=f"{name}: a SentencePiece .* accepted: the tokenizer.json of the same model"
        ):
            open_it()
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a"))
    (tmp_path / "tokenizer.json").write_text(model.to_str())
    assert open_tokenizer(tmp_path).encode("a").tolist() == [0]


def test_errors_name_the_file(tmp_path):
    with pytest.raises(UserError, match="no-such-file"):
        open_tokenizer("no-such-file")
    with pytest.raises(UserError, match="encoder.json and vocab.bpe or vocab.json and merges.txt"):
        open_tokenizer(str(tmp_path))
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps({"model": "none"}))
    with pytest.raises(UserError, match="wrong.json"):
        open_tokenizer(str(wrong))
    with pytest.raises(UserError, match="257"):
        train_bpe(["text"], 256, tmp_path / "small.json")
    with pytest.raises(UserError, match="only yields"):
        train_bpe(["ab"], 1000, tmp_path / "small.json")
    (tmp_path / "built_in.json").write_text('{"states": {}}')
    with pytest.raises(UserError, match="built_in.json is damaged"):
        open_tokenizer(str(tmp_path))
    (tmp_path / "built_in.json").unlink()
    (tmp_path / "encoder.json").write_text("{}")
    (tmp_path / "vocab.bpe").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=str(tmp_path)):
        open_tokenizer(str(tmp_path))
