"""Configs stored as JSON: read back with their hashes, and refused in one line where they are damaged."""

import hashlib
import json

import pytest

from mdlm_jax.config import LATER_KEYS, config_hash, differing_keys, from_json, hash_of_stored, load_config, to_json
from mdlm_jax.errors import UserError
from tests.run_folders import ROOT

BASE = str(ROOT / "configs" / "base.py")


def load(*overrides):
    return load_config(BASE, [f"--config.{override}" for override in overrides])


def test_json_keeps_config_and_hash(tmp_path):
    config = load("optim.lr=0.003")
    (tmp_path / "config.json").write_text(to_json(config))
    again = from_json(tmp_path / "config.json")
    assert hash_of_stored(tmp_path / "config.json") == config_hash(again) == config_hash(config) != config_hash(load())
    assert differing_keys(load(), again) == ["optim.lr: 0.01 -> 0.003"]


def test_later_keys_keep_old_hashes(tmp_path):
    """A config without the later keys has the hash of a config with their defaults."""
    config = load()
    told = config.to_dict()
    for key in LATER_KEYS:
        *parents, leaf = key.split(".")
        node = told
        for parent in parents:
            node = node[parent]
        del node[leaf]
    (tmp_path / "config.json").write_text(json.dumps(told))
    old = hashlib.sha256((json.dumps(told, indent=1, sort_keys=True) + "\n").encode()).hexdigest()[:8]
    assert config_hash(config) == config_hash(from_json(tmp_path / "config.json")) == old
    assert hash_of_stored(tmp_path / "config.json") == old
    assert config_hash(load("data.prompt_tokens=3")) != old


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"seed": 0,', "not whole JSON, line 1"),
        ("[]", "holds \\[\\]; accepted: an object with the keys of a config"),
        ("null", "holds None; accepted"),
        ("{}", "config.seed is missing; its default is 0"),
        ('{"seed": {}}', "config.seed is missing"),
        ('{"optim": 3}', "config.optim is not a key"),
        ('{"lock": 3}', "config.lock is not a key"),
        ("\xff", "not JSON in UTF-8"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_broken_json_is_named(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=f"config.json: {message}") as refused:
        from_json(tmp_path / "config.json")
    assert "\n" not in str(refused.value)


def test_stored_values_are_checked(tmp_path):
    (tmp_path / "config.json").write_text(to_json(load()).replace('"steps": 1000', '"steps": "1000"'))
    with pytest.raises(UserError, match="config.json: config.steps is '1000'; accepted: int"):
        from_json(tmp_path / "config.json")
