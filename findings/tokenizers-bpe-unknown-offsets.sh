#!/usr/bin/env bash
# tokenizers 0.23.3.
# Behaviour: a BPE model without an unknown token leaves characters out that its vocabulary lacks, and counts the
#   offsets of what follows as if they had not been there.
# Seen: "acb" with a vocabulary of a and b gives the offsets (0, 1) and (1, 2): the text there is "a" and "c".
# Misled: everyone who maps tokens back to the text by offsets (answer spans, prompt masks, highlighting).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q tokenizers==0.23.3
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import tokenizers

model = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, "b": 1}, []))
text = "acb"
encoded = model.encode(text)
print([(token, span, text[slice(*span)]) for token, span in zip(encoded.tokens, encoded.offsets)])
assert encoded.tokens == ["a", "b"]
assert encoded.offsets == [(0, 1), (1, 2)] and text[slice(*encoded.offsets[1])] == "c", "changed"
PYTHON
