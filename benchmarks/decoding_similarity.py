"""Similarity of keys and values over the steps of a block, for decoding.py: why a cache of them works."""

import pathlib

import jax
import matplotlib.pyplot as plt
import numpy as np
from decoding_quality import BLOCK

from mdlm_jax.runs.restore import Run
from mdlm_jax.sampling import Confidence, key_value_similarity, sample

ROWS = 2
REGIONS = {"before": "before the block", "block": "the block", "after": "after the block"}
FIELDS = ("keys", "values")


def similarity(run: Run, length: int) -> dict:
    """Cosine of keys and values with those at the start of the block, by evaluations since (one token each).

    Means over layers, rows and the positions of a region, for an early, a middle and a late block of the row.
    """
    model, frames = run.model, []
    sampler = Confidence(block_size=BLOCK)
    prompt = np.zeros((ROWS, 0), np.int32)
    tokens, _ = sample(
        jax.random.key(0), model, run.params, prompt, sampler, length, watch=lambda rows: frames.append(rows)
    )
    jax.block_until_ready(tokens)
    found, last = {}, length // BLOCK - 1
    for block in (1, last // 2, last - 1):
        begun = block * BLOCK
        # the function compares neighbours: the first frame stands before each of the others
        pairs = [frame for since in range(1, BLOCK) for frame in (frames[begun], frames[begun + since])]
        cosines = key_value_similarity(model, run.params, pairs)
        where = {"before": slice(0, begun), "block": slice(begun, begun + BLOCK), "after": slice(begun + BLOCK, None)}
        found[f"positions {begun} to {begun + BLOCK - 1}"] = {
            name: {region: field[::2, :, positions].mean(axis=(1, 2)).tolist() for region, positions in where.items()}
            for name, field in zip(FIELDS, cosines, strict=True)
        }
    return found


def plot_similarity(found: dict, path: pathlib.Path) -> None:
    """A row of panels for keys and one for values, a column for each block."""
    figure, axes = plt.subplots(len(FIELDS), len(found), figsize=(12, 6.5), sharex=True, sharey=True)
    for column, (block, cosines) in enumerate(found.items()):
        for axis, name in zip(axes[:, column], FIELDS, strict=True):
            for region, label in REGIONS.items():
                axis.plot(range(1, BLOCK), cosines[name][region], label=label)
            axis.grid(alpha=0.3)
        axes[0, column].set_title(f"block: {block}")
        axes[-1, column].set_xlabel("evaluations since the block was begun")
    for axis, name in zip(axes[:, 0], FIELDS, strict=True):
        axis.set_ylabel(f"cosine, {name}")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="lower center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(path, dpi=110)
    plt.close(figure)
