"""Lines of the verbs train, evaluate and sample, as in hostile.py."""

from tests import run_folders as runs
from tests.cli.hostile_values import (
    LONG,
    MISSING,
    NO_CONFIG,
    NO_RUN,
    NO_SEED,
    NO_TEXT,
    NOT_NUMBERS,
    NOT_WHOLE,
    SAMPLERS,
    UNWRITABLE,
    WORDS,
    below,
)


def run_lines() -> list[tuple[str, list[str], dict[str, list[str]]]]:
    """As `lines`."""
    fields = {
        "--steps": below(1),
        "--temperature": ["-1", "-1e-9", *NOT_NUMBERS],
        "--top-k": below(1),
        "--top-p": ["0", "-1", "1.1", "2", *NOT_NUMBERS],
        "--guidance": NOT_NUMBERS,
        "--stop": ["9999", ""],
        "--suppress": ["9999", "-1", "3+x+", "3+9999"],
        "--delay": ["9999", "-1"],
        "--correctors": ["3", *below(0)],  # the sampler has none
        "--block-size": ["9999", *below(1)],
        "--confidence": WORDS,
        "--rule": WORDS,
        "--limit": ["2", "-1", "0.5", *NOT_NUMBERS],  # the rule has none
        "--cache": WORDS,
        "--counts": WORDS,
    }
    run_data = {
        "--out": UNWRITABLE,
        "--sequences": below(1),
        "--draws": below(2),
    }
    return [
        (
            "train",
            ["--run", "{new}", "--config", "base", *(f"--config.{key}={value}" for key, value in runs.TINY.items())],
            {
                "--run": ["", ".", "/", "/proc/a", "{text}", "{text}/a", LONG, "{masked}", "{broken_run}"],
                "--config": NO_CONFIG,
                "--from": [*NO_RUN, "{ar}"],
                "--branch": ["{masked}@2", "x", "@"],
                "--extend": [*WORDS, "hold", "replan"],
                "--recipe": [*WORDS, "sdar"],
                "--coordinator": ["localhost:1", "x", ":", "\udcff"],
                "--processes": ["1", "3", *below(0)],
                "--process": ["1", *below(0)],
            },
        ),
        ("train", ["--run", "{masked}"], {"--run": NO_RUN, "--config.optim.lr": ["1", "0.3", *NOT_NUMBERS]}),
        (
            "train",
            ["--run", "{masked}", "{ar}"],
            {"--config": ["base"], "--branch": ["{masked}@2"], "--extend": ["hold"]},
        ),
        (
            "train",
            ["--run", "{new}", "--coordinator", "x:1", "--processes", "1", "--process", "0", "--config", "base"],
            {"--coordinator": ["x", ":", "x:", ":1", "x:y", "x:-1", "x:99999", "x:1:2"], "--process": ["1", "2", "-1"]},
        ),
        (
            "train",
            ["--run", "{new}", "--branch", "{masked}@2"],
            {"--branch": [*NO_RUN, *(f"{{masked}}@{step}" for step in ("", "x", "-1", "1", "9" * 30, "2@2", "nan"))]},
        ),
        (
            "train",
            ["--run", "{new}", "--from", "{ar}", "--recipe", "sdar"],
            {"--from": [*NO_RUN, "{masked}"], "--recipe": WORDS},
        ),
        (
            "evaluate",
            ["--run", "{masked}", "--draws", "2", "--sequences", "2"],
            {
                "--run": NO_RUN,
                **run_data,
                "--data": [text for text in NO_TEXT if text],
                "--source": WORDS,
                "--validation-path": [text for text in NO_TEXT if text],
                "--guidance": ["1", *NOT_NUMBERS],
                "--prompt-field": ["x"],
                "--answer-field": ["x"],
                "--likelihood": WORDS,
                "--orders": ["8", *below(2)],
                "--length": ["9999", *below(1)],
                "--clip": [""],
                "--classify": [""],  # the run is of text
                "--retrieve": ["2", *below(2)],
                "--neighbours": [""],
            },
        ),
        (
            "evaluate",
            ["--run", "{masked}", "--draws", "2", "--path", "{text}"],
            {
                "--path": NO_TEXT,
                "--sequences": ["2"],
                "--data": ["{text}"],
                "--field": ["text"],  # a .txt file has none
                "--out": UNWRITABLE,
                "--length": ["99", "0", "-1"],
                "--pairs": ["{pairs}"],
            },
        ),
        (
            "evaluate",
            ["--run", "{masked}", "--draws", "2", "--path", "{text}", "--protocol", "sedd"],
            {"--protocol": WORDS, "--detokenize": WORDS, "--path": NO_TEXT, "--length": ["99", *below(1)]},
        ),
        ("evaluate", ["--run", "{masked}", "--path", "{jsonl}"], {"--field": ["", "x", "text.x", "..", "0", "\udcff"]}),
        (
            "evaluate",
            ["--run", "{masked}", "--draws", "2", "--pairs", "{pairs}"],
            {
                "--pairs": [*NO_TEXT, "{text}", "{jsonl}", "{bad_pairs}", "{long_pairs}"],
                "--draws": ["3", *below(2)],
                "--guidance": NOT_NUMBERS,
                "--prompt-field": ["nothing", "prompt.x"],
                "--answer-field": ["nothing", "\udcff"],
                "--field": ["x"],
                "--length": ["8"],
                "--out": UNWRITABLE,
            },
        ),
        (
            "evaluate",
            ["--run", "{masked}", "--likelihood", "orders", "--orders", "4", "--sequences", "2"],
            {"--orders": ["3", "0", *below(2)], "--draws": ["4"], "--likelihood": ["left_to_right", *WORDS]},
        ),
        (
            "evaluate",
            ["--run", "{blocks}", "--clip", "--draws", "2", "--sequences", "2"],
            {"--run": [*NO_RUN, "{masked}"], "--draws": below(1), "--sequences": below(1), "--orders": ["4"]},
        ),
        (
            "sample",
            ["--run", "{masked}", "--length", "8"],
            {
                "--run": NO_RUN,
                "--prompt": ["long" * 50],
                "--count": below(1),
                "--length": ["0", "-1", *NOT_WHOLE],
                "--new-tokens": ["4", *below(1)],
                "--mask-token": [""],
                "--chat": [*NO_TEXT, "{text}", "{jsonl}", "{chats}"],
                "--infill": [*MISSING, "{empty}", "{binary}", "{long_text}"],
                "--seed": NO_SEED,
                "--sampler": SAMPLERS,
                "--plan": SAMPLERS,
                "--out": UNWRITABLE,
                "--compare": SAMPLERS,
                "--judge": ["{ar}", *NO_RUN],
                **fields,
            },
        ),
        (
            "sample",
            ["--run", "{masked}", "--length", "8", "--out", "{out}", "--compare", "ancestral"],
            {
                "--compare": SAMPLERS,
                "--judge": [*NO_RUN, "{masked}"],
                "--out": UNWRITABLE,
                "--count": below(1),
                "--length": below(1),
                "--steps": ["2"],
                "--prompt": ["long" * 50],
                "--seed": NO_SEED,
            },
        ),
        (
            "sample",
            ["--run", "{masked}", "--prompt", "a<mask>", "--mask-token", "<mask>"],
            {"--prompt": ["a", "<mask:0>", "<mask:9999>"], "--mask-token": ["", "<gap>"]},
        ),
        ("sample", ["--run", "{masked}", "--length", "8", "--plan", "ancestral"], {"--steps": ["2"], "--top-k": ["2"]}),
        (
            "sample",
            ["--run", "{masked}", "--length", "8", "--sampler", "confidence:rule=threshold,limit=0.9"],
            {
                "--limit": ["-1", "2", *NOT_NUMBERS],
                "--steps": below(1),
                "--delay": ["9999", "x\udcff"],
                "--correctors": ["1"],
            },
        ),
    ]
