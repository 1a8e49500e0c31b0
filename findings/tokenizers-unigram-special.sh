#!/usr/bin/env bash
# tokenizers 0.23.3.
# Behaviour: encode_special_tokens=True is to split the text of a special token like any other text. A BPE model does
#   that. A Unigram model whose own vocabulary holds the special token, as those converted from SentencePiece do,
#   still gives its id.
# Seen: "a</s>a" gives the tokens a, </s>, a with Unigram, and a, <, /, s, >, a with BPE.
# Misled: everyone who sets the flag so that text from the web cannot contain an end of sequence.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q tokenizers==0.23.3
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
from tokenizers import Tokenizer, models

unigram = models.Unigram([("<unk>", 0.0), ("</s>", -1.0), ("a", -1.0)], unk_id=0)
bpe = models.BPE(vocab={"<": 0, "/": 1, "s": 2, ">": 3, "a": 4}, merges=[])
found = {}
for name, model in (("Unigram", unigram), ("BPE", bpe)):
    tokenizer = Tokenizer(model)
    tokenizer.add_special_tokens(["</s>"])
    tokenizer.encode_special_tokens = True
    found[name] = tokenizer.encode("a</s>a").tokens
    print(name, found[name])
assert found["Unigram"] == ["a", "</s>", "a"], "changed"
assert found["BPE"] == ["a", "<", "/", "s", ">", "a"], "changed"
PYTHON
