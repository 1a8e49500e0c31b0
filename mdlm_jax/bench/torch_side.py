"""The other side of a step: the same model, loss and optimiser in PyTorch, with what its users would take.

Query, key and value are one product, and so are gate and up; `scaled_dot_product_attention`, autocast where we compute
in bfloat16, fused AdamW, and `torch.compile` on a GPU or where there is a C++ compiler.
"""

import sys

from mdlm_jax.malloc import set_up_malloc

if __name__ == "__main__":
    set_up_malloc()

import contextlib
import json
import os
import pathlib
import resource
import shutil

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mdlm_jax.bench import cases
from mdlm_jax.bench.torch_process import serve

JOINED = {"query_key_value": ("query", "key", "value"), "gate_up": ("gate", "up")}


def rotate(x, cos, sin):
    """Rotary embedding, half-split; x is [B, H, L, d]."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Block(nn.Module):
    def __init__(self, w: cases.Case):
        super().__init__()
        self.heads, self.causal = w.heads, w.objective == "ar"
        self.norm_1 = nn.RMSNorm(w.width, eps=cases.NORM_EPSILON)
        self.norm_2 = nn.RMSNorm(w.width, eps=cases.NORM_EPSILON)
        self.query_key_value = nn.Linear(w.width, 3 * w.width, bias=False)
        self.attention_out = nn.Linear(w.width, w.width, bias=False)
        self.gate_up = nn.Linear(w.width, 2 * w.mlp_width, bias=False)
        self.down = nn.Linear(w.mlp_width, w.width, bias=False)

    def forward(self, x, cos, sin):
        joint = self.query_key_value(self.norm_1(x))
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in joint.chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=self.causal)
        x = x + self.attention_out(mixed.transpose(1, 2).flatten(2))
        gate, up = self.gate_up(self.norm_2(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class Transformer(nn.Module):
    def __init__(self, w: cases.Case):
        super().__init__()
        self.embedding = nn.Embedding(w.vocab_size + 1, w.width)
        self.blocks = nn.ModuleList(Block(w) for _ in range(w.layers))
        self.norm = nn.RMSNorm(w.width, eps=cases.NORM_EPSILON)
        self.head = nn.Linear(w.width, w.vocab_size, bias=False)
        half = w.width // w.heads // 2
        angle = torch.arange(w.length)[:, None] * 1e4 ** (-torch.arange(half) / half)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def hidden(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return self.norm(x)

    def forward(self, tokens):
        return self.head(self.hidden(tokens))


def load(model: Transformer, weights) -> None:
    """Takes over the weights of our side, whose kernels are [in, out] and whose blocks are stacked."""
    layers = {}
    named = {"embedding.weight": weights["ends/embedding/embedding"], "head.weight": weights["ends/head"].T}
    for path, value in weights.items():
        if path.startswith("ends/norm"):
            named["norm.weight"] = value
        elif path.startswith("blocks/"):
            name = path.split("/")[1]
            layers |= {(index, name): layer.T for index, layer in enumerate(value)}
    for index in range(len(model.blocks)):
        for name, parts in JOINED.items():
            layers[index, name] = np.concatenate([layers.pop((index, part)) for part in parts])
    named |= {f"blocks.{index}.{name}.weight": value for (index, name), value in layers.items()}
    model.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in named.items()})


def main(folder: pathlib.Path) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    w = cases.Case(**json.loads((folder / "case.json").read_text()))
    model = Transformer(w)
    load(model, np.load(folder / "weights.npz"))
    model.to(device)
    views = {name: torch.from_numpy(value).to(device) for name, value in np.load(folder / "views.npz").items()}
    decayed = [p for name, p in model.named_parameters() if p.ndim == 2 and name != "embedding.weight"]
    others = [p for name, p in model.named_parameters() if p.ndim == 1 or name == "embedding.weight"]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": cases.WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}],
        lr=cases.LEARNING_RATE,
        betas=cases.BETAS,
        eps=cases.EPSILON,
        fused=True,
    )
    half = w.dtype == "bfloat16"
    precision = torch.autocast(device, torch.bfloat16) if half else contextlib.nullcontext()

    def nats(hidden, targets, weight):
        each = F.cross_entropy(model.head(hidden).float(), targets.long(), reduction="none")
        return (weight * each).sum()

    hidden_of = model.hidden
    if device == "cuda" or shutil.which(os.environ.get("CXX", "g++")):
        hidden_of, nats = torch.compile(hidden_of), torch.compile(nats, dynamic=w.scored_only)
    rows = iter(range(len(views["tokens"])))

    def step() -> float:
        row = next(rows)
        tokens, targets, weight = (views[name][row] for name in ("tokens", "targets", "weight"))
        optimizer.zero_grad()
        with precision:
            hidden, targets, weight = hidden_of(tokens).flatten(0, 1), targets.flatten(), weight.flatten()
            if w.scored_only:
                hidden, targets, weight = (field[weight != 0] for field in (hidden, targets, weight))
            loss = nats(hidden, targets, weight) / tokens.numel()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), cases.CLIP)
        optimizer.step()
        return loss.item()

    width = json.loads((folder / "matmul.json").read_text())
    square = torch.ones(width, width, device=device, dtype=torch.bfloat16 if half else torch.float32)

    def matmul() -> float:
        return (square @ square)[0, 0].item()

    before = _most_memory(device)

    def memory() -> float:
        """Bytes of a step beyond what was there before the first: of the device, or of the process at its largest."""
        state = sum(p.numel() * p.element_size() for p in model.parameters())
        return _most_memory(device) - before + state

    serve(torch.__version__, {"step": step, "matmul": matmul, "memory": memory})


def _most_memory(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    if (status := pathlib.Path("/proc/self/status")).exists():
        # of this program alone: where getrusage counts, a process starts with what its parent had
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
