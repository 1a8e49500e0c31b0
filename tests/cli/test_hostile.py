"""Nonsense for every option of every verb: one line, exit code 2, nothing written, soon."""

import contextlib
import functools
import io
import os
import pathlib
import signal
import time

import jax
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdlm_jax.cli.main import _parser, main
from tests.cli.hostile import FREE, lines
from tests.cli.hostile_place import make_place
from tests.cli.test_fuzz import verbs

HANG_SECONDS = 60


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """(placeholders, the folder that holds all of it). Verbs set options of jax for their whole process.

    The harness's index of all tasks, which takes 10 s, is made once for each folder of task files.
    """
    import lm_eval.tasks

    found = lm_eval.tasks.TaskManager
    lm_eval.tasks.TaskManager = functools.cache(found)
    before = {name: getattr(jax.config, name) for name in ("jax_enable_compilation_cache", "jax_platforms")}
    folder = tmp_path_factory.mktemp("place")
    yield make_place(folder), folder
    lm_eval.tasks.TaskManager = found
    for name, value in before.items():
        jax.config.update(name, value)


def filled(word: str, names: dict[str, str]) -> str:
    for name, path in names.items():
        word = word.replace("{" + name + "}", path)
    return word


def with_value(words: list[str], option: str, value: str) -> list[str]:
    """The words of a line with another value of an option, or of the first word that is none."""
    if not option.startswith("-"):
        return [value, *words[1:]]
    words = list(words)
    names = [option, *(["--model"] if option == "--run" else [])]
    for name in names:
        if name in words:
            at = words.index(name)
            del words[at : at + (1 if option == "--clip" else 2)]
    if option == "--clip":
        return [*words, f"--clip={value}"]
    if option in ("--slurm", "--forgiven"):
        return [*words, option, *value.split(" ")]
    return [*words, f"{option}={value}"]


def contents(folder: pathlib.Path) -> dict[str, tuple[int, int]]:
    """From the files and folders below a folder to their sizes and times."""
    found = {}
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != "attempts"]  # a refused attempt may be recorded
        found |= {
            path: (0, 0) if path == parent else (status.st_size, status.st_mtime_ns)
            for path in [parent, *(os.path.join(parent, file) for file in files)]
            if (status := os.lstat(path))
        }
    return found


def run(words: list[str]) -> tuple[int, str, float]:
    """(exit code, standard error, seconds) of the command. A traceback or a hang fails."""

    def hangs(number, frame):
        raise AssertionError(f"{words} runs for {HANG_SECONDS} s")

    err, began = io.StringIO(), time.perf_counter()
    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(HANG_SECONDS)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
            main(words)
    except SystemExit as ended:
        return ended.code, err.getvalue(), time.perf_counter() - began
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    raise AssertionError("main returned")


def test_every_option_has_nonsense():
    """An option that is added needs values here that it refuses."""
    listed = {(verb, option) for verb, _, options in lines() for option in options} | FREE
    for path, parser in verbs(_parser()):
        for action in parser._actions:
            names = action.option_strings or [action.dest]
            if action.dest != "help":
                assert any((" ".join(path), name) in listed for name in names), (path, names)


def refuse(place, number: int, mistakes: list[tuple[str, str]]) -> float:
    """Runs a line with mistakes, and returns the seconds until it is refused."""
    (names, folder), (verb, words, _) = place, lines()[number]
    before = contents(folder)
    for option, value in mistakes:
        words = with_value(words, option, value)
    words = [*verb.split(), *(filled(word, names) for word in words)]
    code, said, seconds = run(words)
    told = [line for line in said.splitlines() if line.startswith("mdlm-jax: ")]
    assert code == 2 and told and "Traceback" not in said, (words, code, said)
    assert contents(folder) == before, (words, said)
    return seconds


@pytest.mark.slow
@pytest.mark.parametrize(
    "verb",
    [
        "train",
        "evaluate",
        "sample",
        "sweep",
        "data",
        "convert harness check config bench",
        "fit predict advise next",
        "transfer",
    ],
)
def test_each_is_refused(place, verb):
    for number, (found, _, options) in enumerate(lines()):
        if found.split()[0] in verb.split():
            for option, values in options.items():
                for value in values:
                    refuse(place, number, [(option, value)])


@pytest.mark.study
@settings(max_examples=4000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_several_are_refused(place, data):
    several = [number for number, (_, _, options) in enumerate(lines()) if len(options) > 1]
    number = data.draw(st.sampled_from(several))
    options = lines()[number][2]
    chosen = data.draw(st.lists(st.sampled_from(sorted(options)), min_size=1, max_size=3, unique=True))
    refuse(place, number, [(option, data.draw(st.sampled_from(options[option]))) for option in chosen])
