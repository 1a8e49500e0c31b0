"""What both sides of train_step.py run, and the lines by which they are told to. Imports neither jax nor torch."""

import json
import sys
import time
from collections.abc import Callable
from typing import NamedTuple


class Workload(NamedTuple):
    """A model with SMDM's options (RMSNorm, RoPE, SwiGLU, no bias, untied head), its objective and its batch."""

    objective: str  # masked | ar
    layers: int
    width: int
    heads: int
    mlp_width: int
    vocab_size: int  # V
    length: int  # L
    batch_size: int  # B
    attention: str  # our backend; PyTorch chooses its own
    loss_chunk: int


WORKLOADS = {
    "smdm-6M-masked": Workload("masked", 6, 256, 4, 1024, 32000, 2048, 2, "blocked", 128),
    "smdm-6M-ar": Workload("ar", 6, 256, 4, 1024, 32000, 2048, 2, "blocked", 128),
    "short-6M-masked": Workload("masked", 8, 256, 4, 640, 260, 256, 16, "einsum", 256),
}
LEARNING_RATE, BETAS, EPSILON, WEIGHT_DECAY, CLIP, NORM_EPSILON = 1e-3, (0.9, 0.95), 1e-8, 0.1, 1.0, 1e-5
MATMUL_WIDTH = 4096
STEPS = 64  # corrupted batches that are made ahead: the most that can be run


def serve(step: Callable[[int], float], matmul: Callable[[], object], version: str) -> None:
    """Answers each line of stdin, `step` or `matmul`, by doing it and writing one line of JSON, until stdin ends."""
    print(json.dumps(version), flush=True)
    count = 0
    for line in sys.stdin:
        wall, cpu, answer = time.perf_counter(), time.process_time(), {}
        if line.strip() == "step":
            answer["loss"] = step(count)
            count += 1
        else:
            matmul()
        answer |= {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        print(json.dumps(answer), flush=True)
