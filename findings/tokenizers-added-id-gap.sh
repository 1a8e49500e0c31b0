#!/usr/bin/env bash
# tokenizers 0.23.3.
# Behaviour: an added token of a tokenizer file gets the next free id, whatever id the file says.
# Seen: a file with 4 tokens and an added token "<x>" with "id": 10 gives "<x>" the id 4 when it is loaded.
# Misled: everyone who edits or merges tokenizer files, or leaves room for reserved tokens: the rows of the embedding
#   that belong to the added tokens are no longer those that are read.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q tokenizers==0.23.3
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import json

import tokenizers

model = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "a": 1, "b": 2, "c": 3}, unk_token="[UNK]"))
written = json.loads(model.to_str())
flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
written["added_tokens"].append({"id": 10, "content": "<x>"} | flags)
loaded = tokenizers.Tokenizer.from_str(json.dumps(written))
print('"id": 10 in the file; id after loading:', loaded.token_to_id("<x>"))
print("saved again as:", json.loads(loaded.to_str())["added_tokens"][0]["id"])
assert loaded.token_to_id("<x>") == 4 and loaded.encode("<x>").ids == [4], "changed"
PYTHON
