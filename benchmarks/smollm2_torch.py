"""PyTorch's side of smollm2.py: the same folder by `transformers`, as its users run it."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from mdlm_jax.malloc import set_up_malloc

if __name__ == "__main__":
    set_up_malloc()

import os

import torch
import transformers

from benchmarks.smollm2 import NEW, PROMPT, QUESTIONS, memory, tokens_of
from mdlm_jax.bench.torch_process import serve


def theirs(folder: str):
    """Question -> its value."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def answer(question: str) -> float:
        what, number = question.split()
        if what == "forward":
            tokens = torch.from_numpy(tokens_of(int(number))[:1]).long()
            with torch.inference_mode():
                return float(model(tokens, use_cache=False).logits[0, -1].max())
        if what == "gradient":
            tokens = torch.from_numpy(tokens_of(int(number))[:1]).long()
            model.zero_grad()
            loss = model(tokens, labels=tokens, use_cache=False).loss
            loss.backward()
            return float(loss.detach())
        prompt = torch.from_numpy(tokens_of(PROMPT)[: int(number)]).long()
        with torch.inference_mode():
            options = {"do_sample": False, "max_new_tokens": NEW, "min_new_tokens": NEW, "eos_token_id": None}
            drawn = model.generate(prompt, attention_mask=torch.ones_like(prompt), pad_token_id=2, **options)
        return float(drawn[:, PROMPT:].sum())

    return answer


if __name__ == "__main__":
    if sys.argv[2:] == ["memory"]:
        print(memory(theirs, sys.argv[1]))
    else:
        answer = theirs(sys.argv[1])
        version = f"torch {torch.__version__}, transformers {transformers.__version__}"
        serve(version, {question: (lambda question=question: answer(question)) for question in QUESTIONS})
