"""Wrong input of any kind gives one line and exit code 2: every verb, every key, every user file."""

import argparse
import contextlib
import functools
import io
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdlm_jax.cli.main import _parser, main
from mdlm_jax.config import flatten, from_json, load_config, to_json
from mdlm_jax.configs import base
from mdlm_jax.configs.base import KEYS
from mdlm_jax.errors import UserError

pytestmark = pytest.mark.slow
QUICK = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}

words = st.one_of(
    st.sampled_from(
        [
            "",
            " ",
            "0",
            "-1",
            "1e400",
            "nan",
            "-inf",
            "1e5",
            "0x10",
            "1_0",
            "True",
            "none",
            "None",
            "[]",
            "{}",
            "\u2014x",
        ]
    ),
    st.integers().map(str),
    st.floats().map(repr),
    st.text(max_size=8),
    st.deferred(lambda: st.sampled_from(sorted({choice for key in KEYS.values() for choice in key.choices}))),
)


def refused(call):
    """The line that refuses; empty where nothing is refused."""
    try:
        call()
    except UserError as error:
        assert str(error) and "\n" not in str(error)
        return str(error)
    return ""


def is_sensible(key, value):
    """Written anew, without `Key.refusal`."""
    if isinstance(value, bool) or value in key.also:
        return True
    if isinstance(value, str):
        parts = value.split(",") if key.several and value else [value]
        return not key.choices or key.plugin and ":" in value or set(parts) <= {*key.choices, *[""][: key.several]}
    ends = [
        key.at_least is None or value >= key.at_least,
        key.at_most is None or value <= key.at_most,
        key.above is None or value > key.above,
        key.below is None or value < key.below,
    ]
    return math.isfinite(value) and all(ends)


@settings(max_examples=3000, **QUICK)
@given(st.sampled_from(sorted(KEYS)), words)
def test_values_of_keys(name, text):
    def load():
        found = dict(flatten(load_config("base", [f"--config.{name}={text}"])))
        assert is_sensible(KEYS[name], found[name]) and type(found[name]) is type(KEYS[name].default)
        assert {key: value for key, value in found.items() if key != name} == {
            key: value for key, value in dict(flatten(base.get_config())).items() if key != name
        }

    line = refused(load)
    assert not line or f"config.{name} is " in line or text.isprintable() is False


@settings(max_examples=500, **QUICK)
@given(st.text(max_size=20).filter(lambda name: name.partition("=")[0] not in KEYS), words)
def test_unknown_keys(name, text):
    assert refused(lambda: load_config("base", [f"--config.{name}={text}"]))


def verbs(parser, path=()):
    """(words of a verb, its parser), for every verb."""
    nested = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not nested:
        yield path, parser
    for action in nested:
        for name, inner in action.choices.items():
            yield from verbs(inner, (*path, name))


def least(parser):
    """What a verb needs to be understood."""
    found = []
    for action in parser._actions:
        if action.option_strings and action.required:
            found += [action.option_strings[0], "3" if action.type is int else "somewhere"]
        elif not action.option_strings and action.nargs != "?":
            found.append("somewhere")
    return found


@functools.cache
def described_verbs():
    """From the words of a verb to (words, parser, what it needs)."""
    return {" ".join(path): (path, parser, least(parser)) for path, parser in verbs(_parser())}


some_verb = st.deferred(lambda: st.sampled_from(sorted(described_verbs())))
leftover = st.sampled_from(
    ["steps=3", "config.steps=3", "\u2014config.steps=3", "--", "--nothing", "--nothing=3", "-x"]
)


def run(arguments):
    """(exit code, lines on stderr) of the command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(arguments)
    assert out.getvalue() == ""
    return ended.value.code, err.getvalue().splitlines()


@settings(max_examples=1000, **QUICK)
@given(some_verb, leftover, words)
def test_unknown_words(verb, word, text):
    path, parser, needed = described_verbs()[verb]
    takes_more = any(action.nargs in ("+", "*", "?") for action in parser._actions)
    mistake = ["--nothing", text] if takes_more and not word.startswith("-") else [word]
    code, lines = run([*path, *needed, *mistake])
    assert code == 2 and len(lines) == 1 and lines[0].startswith("mdlm-jax: "), lines


@settings(max_examples=500, **QUICK)
@given(some_verb, st.data())
def test_options_that_are_not_numbers(verb, data):
    path, parser, needed = described_verbs()[verb]
    numbers = [action for action in parser._actions if action.option_strings and action.type in (int, float)]
    if not numbers:
        return
    action = data.draw(st.sampled_from(numbers))
    text = data.draw(st.text(max_size=6).filter(lambda text: not is_number(text, action.type)))
    code, lines = run([*path, *needed, f"{action.option_strings[-1]}={text}"])
    assert code == 2 and len(lines) == 1 and "invalid" in lines[0], lines


def is_number(text, kind):
    try:
        kind(text)
    except ValueError:
        return False
    return True


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=1000, **QUICK)
@given(st.sampled_from([*sorted(KEYS), ""]), values)
def test_edited_configs(tmp_path_factory, name, value):
    whole = json.loads(to_json(base.get_config()))
    section, _, leaf = name.rpartition(".")
    if name:
        (whole[section] if section else whole)[leaf] = value
    path = tmp_path_factory.getbasetemp() / "config.json"
    path.write_text(json.dumps(whole if name else value))
    line = refused(lambda: from_json(path))
    if line:
        assert line.startswith(f"{path}: ")
    else:
        found = dict(flatten(from_json(path)))
        assert set(found) == set(KEYS) and all(is_sensible(KEYS[key], found[key]) for key in found)
