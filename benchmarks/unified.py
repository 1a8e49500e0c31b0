"""A step of `unified` against one of `masked` on text, with the same network and as many positions, and AR beside them.

    python benchmarks/unified.py

UniDisc's small study has 128 positions of text and 256 of images, V = 32,000 + 8,192; here with a quarter of its width.
The step of `masked` computes the logits of all ids at each position, that of `unified` those of its modality. Steps
alternate in one process, so that all run under equal load; a ratio is the median over turns.
"""

import json
import pathlib
import statistics
import time

from mdlm_jax.malloc import ask_for_huge_pages, set_up_malloc

if __name__ == "__main__":
    ask_for_huge_pages()
    set_up_malloc()

import jax
import numpy as np
from objectives import compiled_step

from mdlm_jax.files import write_whole
from mdlm_jax.models.architecture import Architecture
from mdlm_jax.objectives import OBJECTIVES
from mdlm_jax.objectives.ar_of_modalities import ar_of_modalities
from mdlm_jax.schedules import linear

TEXT, IMAGE, WORDS, CODES, BATCH, TURNS = 128, 256, 32_000, 8_192, 2, 20
V, LENGTH = WORDS + CODES, TEXT + IMAGE
NETWORK = Architecture(V, layers=12, width=192, heads=3, key_value_heads=3, mlp_width=768, qk_norm=True)


def cases() -> dict:
    """`masked` first: the others are compared with it."""
    tasks = {"joint": 0.9, "text": 0.05, "image": 0.05}
    return {
        "masked": OBJECTIVES["masked"](V, linear()),
        "unified": OBJECTIVES["unified"](V, WORDS, TEXT, tasks, linear(), linear()),
        "unified, full head": OBJECTIVES["unified"](V, WORDS, TEXT, tasks, linear(), linear())._replace(parts=()),
        "ar, flipped": ar_of_modalities(V, WORDS, TEXT, "flipped"),
    }


def rows() -> np.ndarray:
    """Text, then image, all ids of a modality equally likely."""
    source = np.random.default_rng(0)
    text, image = source.integers(0, WORDS, (BATCH, TEXT)), source.integers(WORDS, V, (BATCH, IMAGE))
    return np.concatenate([text, image], axis=1).astype(np.int32)


def main() -> None:
    steppers = {name: compiled_step(it, NETWORK, "einsum", rows()) for name, it in cases().items()}
    seconds: dict[str, list[float]] = {name: [] for name in steppers}
    for turn in range(TURNS + 1):
        for name in list(steppers)[:: 1 if turn % 2 else -1]:
            start = time.perf_counter()
            steppers[name].step()
            seconds[name].append(time.perf_counter() - start)
    lines = ["| objective | step, ms | step / `masked` | temporary memory, MB |", "|---|---|---|---|"]
    found = {}
    for name, times in seconds.items():
        pairs = list(zip(times[1:], seconds["masked"][1:], strict=True))  # the first turn warms up
        found[name] = {
            "milliseconds": 1e3 * statistics.median(own for own, _ in pairs),
            "ratio": statistics.median(own / other for own, other in pairs),
            "temporary_megabytes": steppers[name].temporary_bytes / 1e6,
        }
        row = found[name]
        lines.append(
            f"| {name} | {row['milliseconds']:,.0f} | {row['ratio']:.2f} | {row['temporary_megabytes']:,.0f} |"
        )
    folder = pathlib.Path(__file__).parent / "results"
    setting = {"text": [TEXT, WORDS], "image": [IMAGE, CODES], "B": BATCH, "jax": jax.__version__}
    write_whole(folder / "unified.json", json.dumps(setting | {"objectives": found}, indent=1) + "\n")
    write_whole(folder / "unified.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
