"""Texts after prompts of several lengths in one batch, against the logits of whole rows."""

import numpy as np
import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.harness.generation import cut, texts, wanted
from mdlm_jax.weights.load import load_weights
from tests.harness.models import CHOICES, LLADA, LLAMA_SMALL, model_folder
from tests.harness.test_scoring import scorer_of
from tests.weights.models import logits_of

NEW = 6


def test_cut():
    assert [cut("a bc. b", until) for until in ([], ["."], [".", "bc"], ["x"])] == ["a bc. b", "a bc", "a ", "a bc. b"]


def test_greedy_texts(tmp_path):
    folder = model_folder(tmp_path / "llama", LLAMA_SMALL)
    scorer, arguments = scorer_of(folder, tmp_path / "out"), {"max_gen_toks": NEW, "do_sample": False}
    requests = [wanted(scorer, None, question, arguments) for question, _, _ in CHOICES]
    assert len({len(request.prompt) for request in requests}) > 2 and len(requests[3].prompt) == 40 - NEW
    found = texts(scorer, None, requests)
    weights = load_weights(folder)
    drawn = [scorer.answers[key]["drawn"] for key in scorer.answers.places]
    rows = np.zeros((len(requests), 40), np.int32)
    for row, request, tokens in zip(rows, requests, drawn, strict=True):
        row[: len(request.prompt) + len(tokens)] = [*request.prompt, *tokens]
    best = logits_of(weights, rows)[..., :].argmax(-1)
    for index, (request, tokens) in enumerate(zip(requests, drawn, strict=True)):
        start = len(request.prompt)
        assert tokens == best[index, start - 1 : start + len(tokens) - 1].tolist()
        assert len(tokens) == NEW or best[index, start + len(tokens) - 1] == scorer.reader.end
    short = [
        wanted(scorer, None, question, arguments | {"until": text[1:3]})
        for (question, _, _), text in zip(CHOICES, found, strict=True)
    ]
    assert texts(scorer, None, short) == [cut(text, [text[1:3]]) for text in found]
    for wrong, accepted in (({"num_beams": 2}, "not served"), ({"max_gen_toks": 40}, "accepted: 1 to 39")):
        with pytest.raises(UserError, match=accepted):
            wanted(scorer, None, "the cat", wrong)
    with pytest.raises(UserError, match="does not train"):
        wanted(scorer, "ancestral", "the cat", arguments)


@pytest.mark.slow
def test_guided_texts(tmp_path):
    """With a weight of -1 a text does not depend on its prompt, and with 1 it does."""
    folder, arguments = model_folder(tmp_path / "llada", LLADA), {"max_gen_toks": NEW, "do_sample": False}
    for weight, different in ((-1.0, 1), (1.0, 2)):
        scorer = scorer_of(folder, tmp_path / "out", guidance=weight)
        requests = [wanted(scorer, "confidence", prompt, arguments) for prompt in ("the cat", "two hats")]
        found = texts(scorer, "confidence", [request._replace(prompt=request.prompt[:2]) for request in requests])
        assert len(set(found)) == different
    scorer = scorer_of(model_folder(tmp_path / "llama", LLAMA_SMALL), tmp_path / "out")
    guided = scorer._replace(asked=scorer.asked._replace(guidance=1.0))
    with pytest.raises(UserError, match=r"guidance 1.0: autoregressive has none"):
        texts(guided, None, [wanted(guided, None, "a", arguments)])
