"""Decoding speed and quality: PyTorch, samplers, caches and first calls, measured in turns in one run.

    python benchmarks/decoding.py --torch-python PYTHON_WITH_TORCH --markov RUN --text RUN --judge RUN
    python benchmarks/decoding.py ... --parts text similarity    # repeats these parts and keeps the others

`--markov`: a masked run on a Markov source; `--text`: a masked run on bytes of text, both L = 1,024; `--judge`: an
autoregressive run on the same text. Seconds are medians over turns; ratios are medians of the ratios within a turn.
Each ratio is reported in CPU time as well, which other processes disturb less. A floor is the FLOPs of all matrix
products at the rate of a 4096^3 product, or the bytes of weights, keys and values at the rate of reading a large array.

On busy cores PyTorch's threads spin while they wait for each other, so neither clock can be trusted. In that case pin
the run to one core (`taskset -c 0`): both sides then use one thread.
"""

from mdlm_jax.malloc import ask_for_huge_pages, set_up_malloc

if __name__ == "__main__":
    ask_for_huge_pages()
    set_up_malloc()

import argparse
import json
import os
import pathlib

import decoding_plot
import decoding_programs
import decoding_quality
import decoding_similarity
import decoding_speed
import jax

from mdlm_jax.bench.suite import machine
from mdlm_jax.files import write_whole
from mdlm_jax.runs.restore import open_run

PARTS = ("first_calls", "cache", "torch", "markov", "text", "similarity")
RESULTS = pathlib.Path(__file__).resolve().parent / "results"


def table(names: list[str], rows: list[list[object]]) -> str:
    lines = [
        names,
        ["---"] * len(names),
        *([f"{item:.3g}" if isinstance(item, float) else str(item) for item in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def torch_table(rows: list[dict]) -> str:
    names = [
        "size",
        "rows",
        "ours, s",
        "PyTorch, s",
        "PyTorch / ours",
        "ratio in CPU time",
        "with float64 confidence",
    ]
    names += ["GFLOP per evaluation", "PyTorch's", "floor, s", "extra evaluations"]
    return table(
        names,
        [
            [
                *(row["size"], row["rows"], row["ours_seconds"], row["torch_seconds"]["float32"]),
                *(row["torch_over_ours"]["float32"], row["torch_over_ours_cpu"]["float32"]),
                *(row["torch_over_ours"]["float64"], row["gflops_per_evaluation"], row["torch_gflops_per_evaluation"]),
                *(row["floor_seconds"], row["evaluations_beyond"]),
            ]
            for row in rows
        ],
    )


def quality_table(rows: list[dict]) -> str:
    shown = [name for name in decoding_plot.MEASURES if rows[0]["quality"][name] is not None]
    names = [
        "plan",
        "rows",
        "s a row",
        "times faster",
        "in CPU time",
        "floor, s",
        "evaluations",
        "beyond the algorithm's",
    ]

    def with_error(estimate) -> str:
        return f"{estimate[0]:.3f} ± {estimate[1]:.3f}"

    return table(
        names + [decoding_plot.MEASURES[name] for name in shown],
        [
            [
                *(row["plan"], row["rows"], row["seconds"], row["faster"], row["faster_cpu"], row["floor_seconds"]),
                *(f"{row['evaluations']:.0f}", row["evaluations_beyond"]),
                *(with_error(row["quality"][name]) for name in shown),
            ]
            for row in rows
        ],
    )


def cache_table(rows: list[dict]) -> str:
    names = ["size", "rows", "cached, s", "without, s", "without / cached", "in CPU time", "floor cached, s"]
    names += ["floor without, s", "extra evaluations"]
    keys = ("size", "rows", "cached_seconds", "uncached_seconds", "ratio", "ratio_cpu", "cached_floor_seconds")
    return table(names, [[row[key] for key in (*keys, "uncached_floor_seconds", "evaluations_beyond")] for row in rows])


def first_table(rows: list[dict]) -> str:
    names = ["plan", "first call, s", "its CPU, s", "second call, s", "programs for prompts of 5, 17, 40 and 64 tokens"]
    return table(
        names,
        [
            [
                *(row["plan"], row["first"]["seconds"], row["first"]["cpu_seconds"], row["second"]["seconds"]),
                ", ".join(f"{count} {name}" for name, count in row["programs"].items()),
            ]
            for row in rows
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", required=True, help="an interpreter that has torch==2.13.0 and numpy")
    for name in ("markov", "text", "judge"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--rows", type=int, default=32, help="of every plan on the Markov source")
    parser.add_argument("--text-rows", type=int, default=16)
    parser.add_argument("--length", type=int, default=1024, help="of these rows")
    parser.add_argument("--rounds", type=int, default=3, help="turns of what takes no checkpoint")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS / "decoding.json")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (default: all)")
    options = parser.parse_args()
    markov, text, judge = map(open_run, (options.markov, options.text, options.judge))
    load, rates = os.getloadavg(), decoding_speed.rates()
    matmul = rates["matmul_flops_per_second"]
    samplers, quality = decoding_quality.SAMPLERS, decoding_quality
    of_text = {name: samplers[name] for name in quality.OF_TEXT}
    parts = {
        "first_calls": decoding_programs.first_calls,
        "cache": lambda: decoding_programs.with_and_without_cache(options.rounds, rates),
        "torch": lambda: decoding_speed.against_torch(options.torch_python, options.rounds, decoding_speed.SIZES),
        "markov": lambda: quality.drawn_in_turns(
            markov, samplers | quality.MARGIN, options.rows, options.length, quality.markov_measure(markov), matmul
        ),
        "text": lambda: quality.drawn_in_turns(
            text, of_text, options.text_rows, options.length, quality.text_measure(judge), matmul
        ),
        "similarity": lambda: decoding_similarity.similarity(text, options.length),
    }
    options.out.parent.mkdir(exist_ok=True)
    again = set(options.parts) < set(PARTS)
    found = json.loads(options.out.read_text(encoding="utf-8")) if again else {}
    for name in options.parts:
        found[name] = parts[name]()
        # what was measured outlives what comes after it
        write_whole(options.out, json.dumps(found, indent=1) + "\n")
    setting = f"setting of {' and '.join(options.parts)}" if again else "setting"
    found[setting] = machine() | rates | {"jax": jax.__version__, "load": [load, os.getloadavg()]}
    tables = {
        "LLaDA's loop in PyTorch against ours": torch_table(found["torch"]),
        "Plans, masked on a Markov source": quality_table(found["markov"]),
        "Plans, masked on text": quality_table(found["text"]),
        "Autoregressive, 1,024 tokens, with the cache and without": cache_table(found["cache"]),
        "First calls of 12 layers": first_table(found["first_calls"]),
    }
    write_whole(options.out, json.dumps(found, indent=1) + "\n")
    markdown = "\n\n".join(f"## {title}\n\n{text}" for title, text in tables.items())
    write_whole(options.out.with_suffix(".md"), markdown + "\n")
    decoding_plot.plot(found, options.out.with_suffix(".png"))
    similar = options.out.with_name(f"{options.out.stem}_similarity.png")
    decoding_similarity.plot_similarity(found["similarity"], similar)
    print(markdown)


if __name__ == "__main__":
    main()
