"""Conversations as tokens, against transformers' chat templates, and as rows."""

import datetime

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from mdlm_jax.data.chat_rows import open_chats, rows_of_chats
from mdlm_jax.data.chat_template import open_template
from mdlm_jax.data.conversations import Conversation, encode_conversation, open_chat, read_conversations
from mdlm_jax.data.tokenizer import open_tokenizer, save_tokenizer
from mdlm_jax.errors import UserError
from tests.data.chats import REWRITES, chat_file, conversations, tokenizer_folder, turns


def chat_of(folder):
    return open_chat(str(folder), open_tokenizer(folder))


def encoded(folder, messages):
    found = encode_conversation(chat_of(folder), "here", messages)
    assert found is not None
    return found


@pytest.mark.slow
def test_tokens_match_transformers(tmp_path):
    from transformers import AutoTokenizer

    folder = tokenizer_folder(tmp_path / "model")
    theirs = AutoTokenizer.from_pretrained(folder)
    for messages in conversations():
        expected = theirs.apply_chat_template(messages, tokenize=True, return_dict=False)
        assert encoded(folder, messages).tokens.tolist() == expected


def test_only_answers_are_scored(tmp_path):
    folder = tokenizer_folder(tmp_path)
    model = open_tokenizer(folder)
    for messages in conversations():
        found = encoded(folder, messages)
        starts = np.flatnonzero(np.diff(found.answered.astype(int), prepend=0) == 1)
        ends = np.flatnonzero(np.diff(found.answered.astype(int), append=0) == -1) + 1
        answers = [message["content"] for message in messages if message["role"] == "assistant"]
        spans = [found.tokens[start:end] for start, end in zip(starts, ends, strict=True)]
        assert [model.decode(span) for span in spans] == [answer + "<|end|>" for answer in answers]
        for start in starts:
            assert model.decode(found.tokens[:start]).endswith("<|start|>assistant\n")
        assert found.bytes == sum(len(answer.encode()) for answer in answers)


def test_rewritten_turns_are_left_out(tmp_path, capsys):
    folder = tokenizer_folder(tmp_path / "model", REWRITES)
    assert encode_conversation(chat_of(folder), "here", turns("hi", "hello", "again", "yes")) is None
    kept = encoded(folder, turns("a", "b"))
    file = chat_file(tmp_path / "a.jsonl", [turns("a", "b")] * 3 + [turns("hi", "hello", "again", "yes")])
    splits = open_chats(str(file), "", str(folder), "unread", 64)
    assert splits.train.count == 2 and splits.validation.count == 1
    assert splits.train.read(np.array([1])).tokens[0, : len(kept.tokens)].tolist() == kept.tokens.tolist()
    assert "1 whose earlier turns the chat template rewrites" in capsys.readouterr().err


def of_sizes(sizes):
    """Conversations of these sizes, each with tokens of its own; the last two are an answer."""
    return [
        Conversation(np.arange(size) + 100 * (number + 1), np.arange(size) >= size - 2, 1)
        for number, size in enumerate(sizes)
    ]


def test_packed_rows_hold_each_conversation_once():
    sizes = [3, 9, 4, 5, 10, 2, 6]
    rows = rows_of_chats(of_sizes(sizes), 10, "packed", 7)
    assert len(rows.tokens) == 4 and (rows.segments == 0).sum() == 40 - sum(sizes)
    seen = []
    for tokens, segments, prompt in zip(*rows, strict=True):
        for segment in range(1, segments.max() + 1):
            own = segments == segment
            number = tokens[own][0] // 100
            seen.append(number)
            assert tokens[own].tolist() == list(range(100 * number, 100 * number + sizes[number - 1]))
            assert np.diff(np.flatnonzero(own)).max(initial=1) == 1
            assert (~prompt[own]).tolist() == [False] * (own.sum() - 2) + [True] * 2
    assert sorted(seen) == list(range(1, 8))


@pytest.mark.parametrize("padding", ["unread", "scored"])
def test_padding(padding):
    rows = rows_of_chats(of_sizes([3, 5]), 5, padding, 7)
    assert rows.tokens[0, :3].tolist() == [100, 101, 102]
    scored = (rows.segments > 0) & ~rows.prompt_mask
    assert scored[0].tolist() == [False, True, True, *[padding == "scored"] * 2]
    assert scored[1].tolist() == [False, False, False, True, True]
    if padding == "scored":
        assert rows.tokens[0, 3:].tolist() == [7, 7] and (rows.segments == 1).all()


def test_splits(tmp_path, capsys):
    folder, file = tokenizer_folder(tmp_path / "model"), chat_file(tmp_path / "chats.jsonl")
    lengths = [len(encoded(folder, messages).tokens) for messages in conversations()]
    splits = open_chats(str(file), "", str(folder), "unread", sorted(lengths)[-2])
    assert (splits.train.count, splits.validation.count) == (4, 1)
    assert f"1 of more than {sorted(lengths)[-2]} tokens" in capsys.readouterr().err
    last = encoded(folder, conversations()[-1])
    held_out = splits.validation.read(np.array([0]))
    assert held_out.tokens[0, : len(last.tokens)].tolist() == last.tokens.tolist()
    assert splits.bytes_per_token == pytest.approx(last.bytes / last.answered.sum())
    both = open_chats(str(file), str(file), str(folder), "unread", 99)
    assert (both.train.count, both.validation.count) == (6, 6)


def test_template_is_kept_with_the_tokenizer(tmp_path):
    opened = open_tokenizer(tokenizer_folder(tmp_path / "model"))
    save_tokenizer(opened, tmp_path / "kept")
    again = open_tokenizer(tmp_path / "kept")
    assert again.fingerprint == opened.fingerprint
    prompt = turns("hi")
    assert chat_of(tmp_path / "kept").render(prompt) == open_template("x", opened.files)(prompt)


def test_parquet_files_hold_the_same_conversations(tmp_path):
    rows = [{"messages": messages, "source": "x"} for messages in conversations()]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=4)
    found = list(read_conversations("data.path", str(tmp_path / "a.parquet")))
    assert [messages for _, messages in found] == conversations()
    assert found[5][0] == f"{tmp_path}/a.parquet, row 6"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"text": "a"}]), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="a.parquet, row 1: no messages; accepted"):
        list(read_conversations("data.path", str(tmp_path / "a.parquet")))
    (tmp_path / "a.parquet").write_bytes(b"PAR1" * 9)
    with pytest.raises(UserError, match="a.parquet cannot be read as parquet"):
        list(read_conversations("data.path", str(tmp_path / "a.parquet")))


WRONG = {
    "not JSON": "{",
    "no messages; accepted": '{"text": "a"}',
    "a message is ": '{"messages": [{"role": "user"}]}',
    "accepted: an answer of the assistant": '{"messages": [{"role": "user", "content": "a"}]}',
    "a control token; accepted: text without it": '{"messages": [{"role": "user", "content": "a <|end|> b"}, '
    '{"role": "assistant", "content": "c"}]}',
}


def test_parquet_content_that_is_no_text(tmp_path):
    for content in (b"\xff", datetime.datetime(2026, 1, 2)):
        row = {"messages": [{"role": "user", "content": content}]}
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "a.parquet")
        with pytest.raises(UserError, match="a.parquet, row 1: a message is "):
            list(read_conversations("--chat", str(tmp_path / "a.parquet")))


@pytest.mark.parametrize("message", WRONG)
def test_wrong_lines(tmp_path, message):
    folder, file = tokenizer_folder(tmp_path / "model"), chat_file(tmp_path / "a.jsonl", [turns("a", "b")])
    with open(file, "a") as stream:
        stream.write(WRONG[message] + "\n")
    with pytest.raises(UserError, match=f"a.jsonl, line 2.*{message}"):
        open_chats(str(file), "", str(folder), "packed", 64)


def test_what_is_no_chat_is_refused(tmp_path):
    file = chat_file(tmp_path / "a.jsonl")
    with pytest.raises(UserError, match="has no chat template; accepted"):
        open_chats(str(file), "", "bytes", "packed", 64)
    folder = tokenizer_folder(tmp_path / "model")
    with pytest.raises(UserError, match="no conversation to train on .6 of more than 8 tokens"):
        open_chats(str(file), "", str(folder), "packed", 8)
    with pytest.raises(UserError, match="tokenizer.json is no .jsonl file; accepted: .jsonl"):
        list(read_conversations("data.path", str(folder / "tokenizer.json")))
    for wrong in ("{{ 1 / 0 }}", "{% for %}", "{{ ''.__class__.__mro__[1].__subclasses__() }}"):
        tokenizer_folder(folder, wrong)
        with pytest.raises(UserError, match="the chat template fails"):
            open_chats(str(file), "", str(folder), "packed", 64)
