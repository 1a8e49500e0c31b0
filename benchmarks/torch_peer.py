"""The other side of train_step.py: the same model, loss and optimiser written plainly in PyTorch."""

import sys

from mdlm_jax.training.malloc import keep_freed_memory

if "--tuned" in sys.argv:
    keep_freed_memory()

import os
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
import workload
from torch import nn


def rotate(x, cos, sin):
    """Rotary embedding, half-split; x is [B, H, L, d]."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Block(nn.Module):
    def __init__(self, w: workload.Workload):
        super().__init__()
        self.heads, self.causal = w.heads, w.objective == "ar"
        self.norm_1 = nn.RMSNorm(w.width, eps=workload.NORM_EPSILON)
        self.norm_2 = nn.RMSNorm(w.width, eps=workload.NORM_EPSILON)
        self.query = nn.Linear(w.width, w.width, bias=False)
        self.key = nn.Linear(w.width, w.width, bias=False)
        self.value = nn.Linear(w.width, w.width, bias=False)
        self.attention_out = nn.Linear(w.width, w.width, bias=False)
        self.gate = nn.Linear(w.width, w.mlp_width, bias=False)
        self.up = nn.Linear(w.width, w.mlp_width, bias=False)
        self.down = nn.Linear(w.mlp_width, w.width, bias=False)

    def forward(self, x, cos, sin):
        normed = self.norm_1(x)
        q, k, v = (
            dense(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for dense in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=self.causal)
        x = x + self.attention_out(mixed.transpose(1, 2).flatten(2))
        normed = self.norm_2(x)
        return x + self.down(F.silu(self.gate(normed)) * self.up(normed))


class Transformer(nn.Module):
    def __init__(self, w: workload.Workload):
        super().__init__()
        self.embedding = nn.Embedding(w.vocab_size + 1, w.width)
        self.blocks = nn.ModuleList(Block(w) for _ in range(w.layers))
        self.norm = nn.RMSNorm(w.width, eps=workload.NORM_EPSILON)
        self.head = nn.Linear(w.width, w.vocab_size, bias=False)
        half = w.width // w.heads // 2
        angle = torch.arange(w.length)[:, None] * 1e4 ** (-torch.arange(half) / half)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return self.head(self.norm(x))


def load(model: Transformer, weights) -> None:
    """Takes over the weights of our side, whose kernels are [in, out] and whose blocks are stacked."""
    named = {"embedding.weight": weights["ends/embedding/embedding"], "head.weight": weights["ends/head"].T}
    for path, value in weights.items():
        if path.startswith("ends/norm"):
            named["norm.weight"] = value
        elif path.startswith("blocks/"):
            name = path.split("/")[1]
            named |= {f"blocks.{index}.{name}.weight": layer.T for index, layer in enumerate(value)}
    model.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in named.items()})


def main(name: str, folder: pathlib.Path) -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    w = workload.WORKLOADS[name]
    model = Transformer(w)
    load(model, np.load(folder / "weights.npz"))
    views = {name: torch.from_numpy(value) for name, value in np.load(folder / "views.npz").items()}
    decayed = [p for name, p in model.named_parameters() if p.ndim == 2 and name != "embedding.weight"]
    others = [p for name, p in model.named_parameters() if p.ndim == 1 or name == "embedding.weight"]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": workload.WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}],
        lr=workload.LEARNING_RATE,
        betas=workload.BETAS,
        eps=workload.EPSILON,
        fused=True,
    )

    def step(count: int) -> float:
        tokens, targets, weight = (views[name][count] for name in ("tokens", "targets", "weight"))
        optimizer.zero_grad()
        each = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten().long(), reduction="none")
        loss = (weight.flatten() * each).sum() / tokens.numel()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), workload.CLIP)
        optimizer.step()
        return loss.item()

    square = torch.ones(workload.MATMUL_WIDTH, workload.MATMUL_WIDTH)
    workload.serve(step, lambda: square @ square, torch.__version__)


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
