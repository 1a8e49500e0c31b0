"""PyTorch side of decoding.py: LLaDA's published loop (arXiv 2502.09992) in plain PyTorch."""

import sys

from mdlm_jax.malloc import ask_for_huge_pages, set_up_malloc

if __name__ == "__main__":
    ask_for_huge_pages()
    set_up_malloc()

import json
import os
import pathlib
import time

import numpy as np
import torch

from mdlm_jax.bench.cases import Case
from mdlm_jax.bench.torch_side import Transformer, load

MATMUL_WIDTH = 4096


@torch.inference_mode()
def decode(model: Transformer, prompt: torch.Tensor, length: int, block_size: int, precision: torch.dtype):
    """Greedy low-confidence remasking, one token a step: every step reads the whole row and computes all its logits."""
    batch, given = prompt.shape
    mask_id = model.head.out_features
    x = torch.full((batch, length), mask_id)
    x[:, :given] = prompt
    for end in range(given + block_size, length + 1, block_size):
        for _ in range(block_size):
            hidden = x == mask_id
            logits = model(x)
            tokens = logits.argmax(dim=-1)
            law = torch.softmax(logits.to(precision), dim=-1)
            sure = law.gather(-1, tokens[..., None])[..., 0]
            sure[:, end:] = -torch.inf
            sure = torch.where(hidden, sure, -torch.inf)
            tokens = torch.where(hidden, tokens, x)
            for row in range(batch):
                best = sure[row].topk(1).indices
                x[row, best] = tokens[row, best]
    return x


def main(folder: pathlib.Path) -> None:
    """Answers each line of stdin (a batch size and a precision or `matmul`) with one line of seconds (and tokens)."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    case = json.loads((folder / "case.json").read_text())
    model = Transformer(Case(**case["model"])).eval()
    load(model, np.load(folder / "weights.npz"))
    prompts = torch.from_numpy(np.load(folder / "prompts.npy")).long()
    square = torch.ones(MATMUL_WIDTH, MATMUL_WIDTH)
    print(json.dumps(torch.__version__), flush=True)
    for line in sys.stdin:
        question, *arguments = line.split()
        wall, cpu = time.perf_counter(), time.process_time()
        if question == "matmul":
            square @ square
            tokens = []
        else:
            batch, precision = arguments
            drawn = decode(
                model, prompts[: int(batch)], case["model"]["length"], case["block_size"], getattr(torch, precision)
            )
            tokens = drawn.tolist()
        spent = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        print(json.dumps(spent | {"tokens": tokens}), flush=True)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
