#!/usr/bin/env bash
# tokenizers 0.23.3.
# Behaviour: train_from_iterator on a tokenizer that already has added tokens keeps their ids and replaces the rest.
#   get_vocab_size() counts entries, so that it can be smaller than the largest id.
# Seen: added token at id 288 stays there after a second training to 257 tokens; get_vocab_size() is 258.
# Misled: everyone who trains vocabularies of several sizes with one object and sizes the embedding by
#   get_vocab_size(): the added token reads past its end (jax clamps or fills without an error).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q tokenizers==0.23.3
cd "$work"
JAX_PLATFORMS=cpu venv/bin/python - <<'PYTHON'
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

model = tokenizers.Tokenizer(models.BPE())
model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)


def train(text, size):
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    model.train_from_iterator([text], trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False))


train("the quick brown fox jumps over the lazy dog " * 3, 300)
model.add_tokens(["<answer>"])
before = model.token_to_id("<answer>")
train("aa", 257)
after, size = model.token_to_id("<answer>"), model.get_vocab_size()
print(f"<answer>: id {before} before, {after} after; get_vocab_size() {size}; encoded {model.encode('<answer>').ids}")
assert after == before >= size, "changed: the id is within the vocabulary"
PYTHON
