"""For every verb, lines that work and, for each of their options, values that must be refused.

Placeholders stand for what `make_place` puts into a folder: {masked}, {ar} are runs, {sweep} an experiment with its
folder {runs}, {text} a text file, {new} and {out} what does not exist yet. Every line gets one value that is nonsense,
so that no line that is drawn does the work.
"""

import functools

from tests.cli.hostile_runs import run_lines
from tests.cli.hostile_values import (
    LONG,
    MISSING,
    NO_CODES,
    NO_CONFIG,
    NO_EXPERIMENT,
    NO_FITS,
    NO_PICTURES,
    NO_RESULTS,
    NO_RUN,
    NO_SEED,
    NO_SWEEP,
    NO_TEXT,
    NOT_NUMBERS,
    NOT_WHOLE,
    SAMPLERS,
    UNWRITABLE,
    WORDS,
    below,
)


@functools.cache
def lines() -> list[tuple[str, list[str], dict[str, list[str]]]]:
    """(verb, words of a line that works, from options to values that are nonsense; the option replaces the line's)."""
    launch = {
        "experiment": NO_EXPERIMENT,
        "--folder": UNWRITABLE,
        "--population": below(1),
        "--workers": below(0),
        "--slurm": ["gpus", "=", "x", "=1"],
        "--allocations": ["2", *below(0)],
        "--submit": ["", "false", "{command", "}", "{command} {unknown}", "{0}", "x {command!z}"],
    }
    return [
        *run_lines(),
        (
            "check",
            ["masked", "--draws", "64"],
            {
                "objective": [*WORDS, "", "{text}:f", "{raising}:f", "nothing:f", ":"],
                "--config": NO_CONFIG,
                "--vocab": ["1000", *below(2)],
                "--length": ["1000", *below(1)],
                "--draws": below(2),
                "--seed": NO_SEED,
                "--out": ["{out}", *UNWRITABLE],
            },
        ),
        (
            "check",
            ["masked", "--parametrization", "--out", "{out}"],
            {
                "objective": [*WORDS, "", "{text}:f", "{raising}:f", "nothing:f", ":"],
                "--config": NO_CONFIG,
                "--vocab": ["3", *below(2)],
                "--length": ["2", *below(1)],
                "--draws": ["64", *below(2)],
                "--seed": ["0", *NO_SEED],
                "--out": UNWRITABLE,
            },
        ),
        (
            "sweep plan",
            ["{sweep}"],
            {
                "experiment": NO_EXPERIMENT,
                "--hardware": ["", "x", "h200:", "h200:0", "h200:-1", "h200:x", ":8", "h200:8:8", "cpu:1.5"],
                "--mfu": ["0.5", *NOT_NUMBERS],
                "--price": ["1", *NOT_NUMBERS],
            },
        ),
        (
            "sweep plan",
            ["{sweep}", "--hardware", "h200:8"],
            {"--price": ["-1", *NOT_NUMBERS], "--mfu": ["0", "-1", "50"]},
        ),
        ("sweep run", ["{sweep}", "--folder", "{new}"], launch),
        ("sweep retry", ["{sweep}", "--folder", "{runs}"], launch),
        ("sweep status", ["{sweep}", "--folder", "{runs}"], {"--folder": NO_SWEEP}),
        ("sweep cancel", ["{sweep}", "--folder", "{runs}"], {"--folder": NO_SWEEP}),
        (
            "sweep report",
            ["{sweep}", "--folder", "{runs}"],
            {
                "experiment": NO_EXPERIMENT,
                "--folder": [*MISSING, "{text}"],
                "--out": UNWRITABLE,
                "--store": [*UNWRITABLE, "{empty}"],
            },
        ),
        (
            "sweep report",
            ["{stored}"],
            {"experiment": NO_RESULTS, "--folder": ["{runs}"], "--store": ["{out}"]},
        ),
        (
            "sweep sample",
            ["{sweep}", "--folder", "{runs}"],
            {"experiment": NO_EXPERIMENT, "--folder": [*MISSING, "{empty}"], "--judge": [*NO_RUN, "{masked}"]},
        ),
        (
            "sweep evaluate",
            ["{sweep}", "--folder", "{runs}", "--likelihood", "orders"],
            {
                "experiment": NO_EXPERIMENT,
                "--folder": [*MISSING, "{empty}"],
                "--likelihood": [*WORDS, "", "elbo", "orders"],  # its only run is exact
                "--orders": ["3", "5000", *below(2)],
            },
        ),
        ("sweep tune", ["{sweep}", "--folder", "{new}"], launch),
        (
            "sweep work",
            ["{new}", "--command", "false"],
            {
                "run": ["", "/proc/a", "{text}/a", LONG],
                "--forgiven": ["1 2", *below(0)],
                "--restart": below(0),
                "--command": ["'", '"a', "/nothing/there", "{text}"],
            },
        ),
        (
            "transfer",
            [
                *("--config", "quickstart", "--sizes", "8k", "--folder", "{new}"),
                "--config.model.parametrization=mup",
            ],
            {
                "--config": NO_CONFIG,
                "--sizes": [*WORDS, "", "4k", "8k,8k", "1k", "8k,", ",", "9M"],
                "--folder": UNWRITABLE,
                "--seeds": below(2),
                "--workers": below(0),
            },
        ),
        (
            "fit",
            ["{stored}", "--out", "{out}"],
            {
                "results": [*NO_RESULTS, "{stored}"],  # one run makes no fit
                "--out": UNWRITABLE,
                "--forms": ["{out}", *UNWRITABLE],
                "--audit": ["{out}", *UNWRITABLE],
                "--resamples": below(100),
            },
        ),
        (
            "predict",
            ["{fits}", "--objective", "masked", "--parameters", "1e8", "--tokens", "1e10"],
            {
                "fits": NO_FITS,
                "--objective": [*WORDS, ""],
                "--parameters": ["0", "-1", "1", "1e300", *NOT_NUMBERS],
                "--tokens": ["0", "-1", "1", "1e300", *NOT_NUMBERS],
            },
        ),
        (
            "advise",
            [
                *("{fits}", "--objective", "masked", "--budget", "1e19", "--config", "smdm", "--out", "{out}"),
                "--config.data.tokenizer=bytes",
            ],
            {
                "fits": NO_FITS,
                "--objective": [*WORDS, ""],
                "--budget": ["0", "-1", "1", "1e10", "1e300", *NOT_NUMBERS],
                "--config": NO_CONFIG,
                "--rule": [*WORDS, ""],
                "--hardware": ["", "x", "h200:0"],
                "--mfu": ["0", "1.01", *NOT_NUMBERS],
                "--price": ["-1", *NOT_NUMBERS],
                "--dollars": ["5"],  # beside --budget
                "--out": UNWRITABLE,
            },
        ),
        (
            "next",
            ["{fits}", "--objective", "masked", "--reference", "masked", "--budget", "1e20"],
            {
                "fits": NO_FITS,
                "--objective": [*WORDS, ""],
                "--reference": [*WORDS, ""],
                "--budget": ["0", "-1", "1", *NOT_NUMBERS],
                **{name: [value] for name, value in {"--hardware": "h200:8", "--mfu": "0.5", "--price": "3"}.items()},
            },
        ),
        (
            "next",
            ["{fits}", "--objective", "masked", "--reference", "masked", "--dollars", "1e5"],
            {
                "--dollars": ["0", "-1", "1e-9", *NOT_NUMBERS],
                "--hardware": ["", "x", "h200:0"],
                "--mfu": ["0", "1.01", *NOT_NUMBERS],
                "--price": ["-1", "0", *NOT_NUMBERS],
            },
        ),
        (
            "bench",
            ["--suite", "smallest"],
            {"--suite": WORDS, "--torch-python": [*MISSING, "", "{text}", "/bin/false"], "--out": UNWRITABLE},
        ),
        (
            "convert",
            ["{model}", "--out", "{new}"],
            {
                "source": [*MISSING, "", "{empty}", "{binary}", "{text}", "{masked}", "{broken_model}", "{list_model}"],
                "--out": [*UNWRITABLE, "{model}", "{text}", "{masked}"],
                "--dtype": [*WORDS, "int8", "float64"],
                "--adapters": [""],
            },
        ),
        (
            "harness",
            ["--model", "{model}", "--include-path", "{tasks}", "--tasks", "small_choice", "--out", "{new}"],
            {
                "--run": NO_RUN,
                "--tasks": ["", "nonsense", ",", "\udcff", "[", "small_choice,nonsense"],
                "--include-path": [*MISSING, "{text}"],
                "--out": [*UNWRITABLE, "{text}"],
                "--limit": below(1),
                "--draws": ["3", *below(2)],
                "--batch-size": below(1),
                "--length": ["9999", *below(1)],
                "--sampler": SAMPLERS,
                "--likelihood": ["elbo", "orders", *WORDS],  # the model has an exact one
                "--orders": ["8", *below(2)],
                "--guidance": ["1", *NOT_NUMBERS],
                "--chat": [""],  # the model has no template
                "--system": ["", " "],
                "--shots": ["6", *below(0)],
                "--shots-as-turns": [""],
            },
        ),
        (
            "leaderboard",
            ["{harnessed}", "--out", "{out}"],
            {
                "folders": [*MISSING, "", "{empty}", "{text}", "{masked}"],
                "--out": [*UNWRITABLE, "{empty}"],
            },
        ),
        ("config", ["optim"], {"key": [*WORDS, ".", "optim.", "optim.nothing", "--", "0"]}),
        (
            "data build",
            ["--source", "text", "--path", "{text}", "--out", "{new}", "--workers", "1"],
            {
                "--source": WORDS,
                "--path": NO_TEXT,
                "--validation-path": NO_TEXT[:4],
                "--out": [*UNWRITABLE, "{masked}", "{text}"],
                "--tokenizer": [*MISSING, "", "{empty}", "{text}", "{binary}", "{list_json}", "bytes2"],
                "--workers": below(1),
            },
        ),
        ("data build", ["--source", "text", "--path", "{jsonl}", "--out", "{new}"], {"--field": ["", "x", "text.x"]}),
        (
            "data tokenizer",
            ["--source", "text", "--path", "{text}", "--out", "{new}", "--size", "300"],
            {
                "--source": WORDS,
                "--path": NO_TEXT,
                "--validation-path": NO_TEXT[:4],
                "--out": [*UNWRITABLE, "{masked}"],
                "--size": ["256", "-1", "99999999", *NOT_WHOLE],
            },
        ),
        # the default source, Python's standard library, reads none of these
        (
            "data build",
            ["--out", "{new}"],
            {"--path": ["{text}", ""], "--validation-path": ["{text}"], "--field": ["text"]},
        ),
        (
            "data tokenizer",
            ["--out", "{new}", "--size", "300"],
            {"--path": ["{text}"], "--validation-path": ["{text}"], "--field": ["text"]},
        ),
        (
            "data tokenizer",
            ["--source", "text", "--path", "{jsonl}", "--out", "{new}", "--size", "300"],
            {"--field": ["x"]},
        ),
        (
            "data build",
            [
                *("--images", "{pictures}", "--image-tokenizer", "{codes}", "--text-length", "20"),
                *("--out", "{new}", "--tokenizer", "bytes"),
            ],
            {
                "--images": [*NO_PICTURES, "{bad_pictures}"],
                "--image-tokenizer": NO_CODES,
                "--text-length": ["14", "65537", *below(1)],  # captions have 14 tokens and more
                "--tokenizer": [*MISSING, "", "{codes}"],
                "--field": ["", "x", "text.x"],
                "--faulty": WORDS,
                "--source": ["text", "images"],
                "--path": ["{text}"],
                "--validation-path": ["{text}"],
                "--workers": ["1"],
                "--out": [*UNWRITABLE, "{text}"],
            },
        ),
        (
            "data build",
            ["--out", "{new}"],
            {"--text-length": ["5", "0"], "--image-tokenizer": ["{codes}", ""], "--faulty": ["skip"]},
        ),
        (
            "data image-tokenizer",
            [
                *("--images", "{pictures}", "--kind", "kmeans", "--size", "8", "--side", "8", "--patch", "4"),
                *("--steps", "2", "--out", "{new}.safetensors"),
            ],
            {
                "--images": [*NO_PICTURES, "{bad_pictures}"],
                "--kind": [*WORDS, "levels"],  # which reads no --size
                "--size": ["1", "70000", *below(1)],
                "--side": ["", "x", "8x", "0", "-8", "8x9", "9999", "7", "16", "8x8x8", "\udcff", "1e3"],
                "--patch": ["3", "16", *below(1)],
                "--levels": ["4"],
                "--steps": ["0", "-1", *NOT_WHOLE],
                "--seed": NO_SEED,
                "--faulty": WORDS,
                "--out": [*UNWRITABLE, "{new}", "{codes}"],
            },
        ),
        (
            "data image-tokenizer",
            [
                *("--images", "{pictures}", "--kind", "fsq", "--levels", "3,3", "--side", "8", "--patch", "4"),
                *("--steps", "1", "--out", "{new}.safetensors"),
            ],
            {"--levels": ["", "1", "3,", "3,x", "3,1", "-3", "300,300", "9" * 5000], "--size": ["8"]},
        ),
    ]


# options whose every value makes sense, or that have none
FREE = {
    ("train", "--fresh"),
    ("sweep status", "experiment"),
    ("sweep cancel", "experiment"),
    ("sweep status", "--watch"),
    ("sweep plan", "--folder"),
    ("sweep work", "--job"),
    ("bench", "--quick"),
    ("data build", "--resize"),
    ("data image-tokenizer", "--resize"),
    ("data image-tokenizer", "--grey"),
    ("check", "--parametrization"),
}
