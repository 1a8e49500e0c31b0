"""Models of every type in `tokenizers`: no text yields a separator, and pieces have the ids of the whole."""

import json

import numpy as np
import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers

from mdlm_jax.data import codec, words
from mdlm_jax.data.bpe import train_bpe
from mdlm_jax.data.codec import open_codec
from mdlm_jax.data.words import GPT4_PATTERN
from tests.public_data import write_gpt2

MARKUP = ["</s>", "a</s>b", " </s> ", "</s></s>a </s>", "a b", "</s"]
WORDS = {"<unk>": 0, "</s>": 1, "a": 2, "b": 3, "<": 4, "/": 5, "s": 6, ">": 7, "##/": 8, "##s": 9, "##>": 10}


def of_model(model, pre_tokenizer=None, decoder=None, added=()):
    built = tokenizers.Tokenizer(model)
    if pre_tokenizer:
        built.pre_tokenizer = pre_tokenizer
    if decoder:
        built.decoder = decoder
    built.add_tokens(list(added))
    return built


def unigram():
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("▁", -2.0), ("a", -2.1), ("b", -3.0), ("▁a", -2.5)]
    model = models.Unigram(pieces + [(letter, -4.0) for letter in "</s>"], 0, False)
    return of_model(model, pre_tokenizers.Metaspace(prepend_scheme="never"), decoders.Metaspace(prepend_scheme="never"))


def merged(**options):
    """A BPE whose merges make '</s>', and from it '</s>a'."""
    vocabulary = {token: i for i, token in enumerate(["</s>", "</", "s>", "</s>a", "Ġ", *"ab</s>"])}
    merges = [("<", "/"), ("s", ">"), ("</", "s>"), ("</s>", "a")]
    return of_model(models.BPE(vocabulary, merges, **options), pre_tokenizers.ByteLevel(False), decoders.ByteLevel())


def added(special):
    model = merged()
    vocabulary = json.loads(model.to_str())["model"]["vocab"]
    rest = {token: i for i, token in enumerate(t for t in vocabulary if "</s>" not in t)}
    token = AddedToken("</s>", special=special, normalized=False)
    return of_model(models.BPE(rest, []), pre_tokenizers.ByteLevel(False), decoders.ByteLevel(), [token])


MODELS = {
    "Unigram": unigram,
    "BPE that merges it": merged,
    "BPE that ignores merges": lambda: merged(ignore_merges=True),
    "BPE with dropout": lambda: merged(dropout=0.5),
    "added token": lambda: added(False),
    "special token": lambda: added(True),
    "WordLevel": lambda: of_model(models.WordLevel(WORDS, "<unk>"), pre_tokenizers.WhitespaceSplit()),
    "WordLevel, added": lambda: of_model(
        models.WordLevel(WORDS, "<unk>"), pre_tokenizers.WhitespaceSplit(), added=[AddedToken("</s>")]
    ),
    "WordPiece": lambda: of_model(models.WordPiece(vocab=WORDS, unk_token="<unk>"), pre_tokenizers.WhitespaceSplit()),
}


@pytest.mark.parametrize("name", MODELS)
def test_text_never_yields_the_separator(name):
    model = MODELS[name]()
    opened = open_codec(model.to_str())
    assert opened.separator == model.token_to_id("</s>") and opened.vocab_size == model.get_vocab_size()
    for text, ids in zip(MARKUP, opened.encode_batch(MARKUP), strict=True):
        assert opened.separator not in ids
        assert opened.encode_batch([text])[0].tolist() == ids.tolist(), "always the same ids"
        if not name.startswith("Word"):
            assert opened.decode(np.append(ids, opened.separator)) == text
    if name != "BPE with dropout":
        assert opened.encode_batch(["a b"])[0].tolist() == model.encode("a b", add_special_tokens=False).ids


def test_unknown_token_is_no_separator():
    unknown = models.WordLevel({"a": 0, "</s>": 1}, unk_token="</s>")
    opened = open_codec(of_model(unknown, pre_tokenizers.WhitespaceSplit()).to_str())
    assert (opened.separator, opened.vocab_size) == (2, 3)
    assert opened.encode_batch(["a what"])[0].tolist() == [0, 1]


def test_merges_as_text():
    """Files of earlier versions write a merge as 'a b'."""
    described = json.loads(merged().to_str())
    described["model"]["merges"] = [" ".join(pair) for pair in described["model"]["merges"]]
    ids = open_codec(json.dumps(described)).encode_batch(MARKUP)
    assert [row.tolist() for row in ids] == [row.tolist() for row in open_codec(merged().to_str()).encode_batch(MARKUP)]


@pytest.fixture(scope="module")
def byte_level():
    model = codec.byte_level(models.BPE())
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=["</s>"], show_progress=False
    )
    model.train_from_iterator(["the naïve café " * 9], trainer)
    return model.to_str()


def with_added(described, *contents, **options):
    model = tokenizers.Tokenizer.from_str(described)
    model.add_tokens([AddedToken(content, normalized=False, **options) for content in contents])
    return model


def test_added_tokens_decode_to_their_text(byte_level):
    contents = ["é", "<ÿ>", "naïve", "漢", "Ġ", "[x y]", "ÃŁ"]
    model = with_added(byte_level, *contents)
    opened = open_codec(model.to_str())
    for text in (*contents, *(f"騎 a{content}b" for content in contents), "".join(contents)):
        assert opened.decode(opened.encode_batch([text])[0]) == text
    long = model.token_to_id("<ÿ>")
    assert long in opened.encode_batch(["a<ÿ>b"])[0], "it is still one token"
    assert opened.decode([long, opened.separator, long]) == "<ÿ><ÿ>"


def test_bytes_decode_as_in_the_library(byte_level):
    model, opened = tokenizers.Tokenizer.from_str(byte_level), open_codec(byte_level)
    generator = np.random.default_rng(0)
    for _ in range(200):
        ids = generator.integers(1, model.get_vocab_size(), 20).tolist()
        assert opened.decode(ids) == model.decode(ids, skip_special_tokens=False)


ALPHABET = [*"aZ'st  \n\t\r.,<>1٣éи漢，。　\u0301\u200d", "the ", " naïve", "don't", "\n\n", "   ", "[x y]"]


def split(pattern):
    isolated = pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([isolated, pre_tokenizers.ByteLevel(False, use_regex=False)])


def changed(described, pre_tokenizer=None, normalizer=None, added=(), **options):
    model = with_added(described, *added, **options)
    if pre_tokenizer:
        model.pre_tokenizer = pre_tokenizer
    if normalizer:
        model.normalizer = normalizer
    return model


CUTTABLE = {
    "GPT-2": lambda: {},
    "GPT-NeoX": lambda: {"normalizer": normalizers.NFC()},
    "Llama 3": lambda: {"pre_tokenizer": split(GPT4_PATTERN)},
    "Qwen 2": lambda: {"pre_tokenizer": split(GPT4_PATTERN.replace("{1,3}", "")), "normalizer": normalizers.NFC()},
    "SmolLM 2": lambda: {
        "pre_tokenizer": pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)])
    },
    "added tokens": lambda: {"added": ["éa", "the", ","]},
}
WHOLE = {
    "prefix space": lambda: {"pre_tokenizer": pre_tokenizers.ByteLevel(True)},
    "one word": lambda: {"pre_tokenizer": pre_tokenizers.ByteLevel(False, use_regex=False)},
    "another pattern": lambda: {"pre_tokenizer": split(r"\w+ \w+|\W+|\w+")},
    "another normalizer": lambda: {"normalizer": normalizers.Strip()},
    "added token with a space": lambda: {"added": ["[x y]"]},
    "added token that strips": lambda: {"added": ["a"], "rstrip": True},
    "added token of whole words": lambda: {"added": ["a"], "single_word": True},
}


@pytest.mark.parametrize("name", [*CUTTABLE, *WHOLE])
def test_pieces_have_the_ids_of_the_whole(byte_level, monkeypatch, name):
    model = changed(byte_level, **(CUTTABLE | WHOLE)[name]())
    monkeypatch.setattr(words, "PIECE_CHARACTERS", 3)
    opened = open_codec(model.to_str())
    model.encode_special_tokens = True
    generator = np.random.default_rng(0)
    texts = ["".join(generator.choice(ALPHABET, 60)) for _ in range(300)]
    assert sum(len(list(words.pieces(text))) for text in texts) > 4 * len(texts)
    for text, ids in zip(texts, opened.encode_batch(texts), strict=True):
        assert ids.tolist() == model.encode(text, add_special_tokens=False).ids
        assert np.concatenate(opened.encode_batch(list(opened.pieces(text)))).tolist() == ids.tolist()
    assert words.may_be_cut(json.loads(model.to_str())) == (name in CUTTABLE)


def test_gpt2_is_encoded_in_pieces(tmp_path):
    folder = write_gpt2(tmp_path)
    model = codec.byte_level(models.BPE.from_file(f"{folder}/encoder.json", f"{folder}/vocab.bpe"))
    assert words.may_be_cut(json.loads(model.to_str()))


def test_training_in_pieces_matches_training_whole(tmp_path, monkeypatch):
    text = "".join(np.random.default_rng(0).choice(["low ", "lower", "\nnewest ", "wid", "er, "], 5000))
    train_bpe([text], 290, tmp_path / "whole.json")
    monkeypatch.setattr(words, "PIECE_CHARACTERS", 50)
    train_bpe([text], 290, tmp_path / "pieces.json")
    assert (tmp_path / "pieces.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
