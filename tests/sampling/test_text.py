"""Samplers as text."""

import pytest

from mdlm_jax.errors import UserError
from mdlm_jax.sampling import Ancestral, Confidence, Remasking, Reverse
from mdlm_jax.sampling.samplers import SAMPLERS
from mdlm_jax.sampling.text import as_text, build_sampler, fields, sampler_from


@pytest.mark.parametrize(
    ("text", "sampler"),
    [
        ("ancestral", Ancestral()),
        ("euler:steps=3", Reverse("euler", steps=3)),
        ("remasking:upstream_compat=true", Remasking(upstream_compat=True)),
        (
            "confidence:rule=threshold,limit=0.9,cache=dual,block_size=32",
            Confidence(rule="threshold", limit=0.9, cache="dual", block_size=32),
        ),
        (
            "confidence: temperature=0, top_p=0.5, delay=3+7, suppress=1, stop=4",
            Confidence(temperature=0.0, top_p=0.5, delay=(3, 7), suppress=(1,), stop=4),
        ),
    ],
)
def test_text_becomes_a_sampler(text, sampler):
    found = sampler_from(text)
    assert type(found) is type(sampler) and found == sampler
    assert [type(value) for value in found] == [type(value) for value in sampler]


def test_every_sampler_has_readable_fields():
    for name in SAMPLERS:
        assert isinstance(build_sampler(name, {}), tuple) and "distribution" not in fields(name)


def test_only_changed_fields_are_shown():
    assert as_text("euler", sampler_from("euler:steps=3")) == {"sampler": "euler", "steps": "3"}
    assert as_text("confidence", Confidence(temperature=1.0, delay=(3,))) == {"sampler": "confidence", "delay": "(3,)"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no sampler ''; accepted: autoregressive, "),
        ("gready:steps=3", "no sampler 'gready'; accepted: autoregressive, .*FILE.py:FUNCTION"),
        ("ancestral:", "'' sets no field; accepted: FIELD=VALUE with temperature, steps"),
        ("ancestral:stepz=3", "'stepz=3' sets no field; accepted: FIELD=VALUE with temperature, steps"),
        ("ancestral:steps", "'steps' sets no field"),
        ("ancestral:steps=3,steps=4", "steps is there twice; accepted: once"),
        ("ancestral:steps=2.5", "steps=2.5; accepted: a whole number"),
        ("ancestral:temperature=warm", "temperature=warm; accepted: a number"),
        ("ancestral:temperature=nan", "temperature=nan; accepted: a number"),
        ("euler:temperature=0", "'temperature=0' sets no field; accepted: FIELD=VALUE with steps"),
        ("confidence:cache=both", "cache=both; accepted: none, prefix, dual"),
        ("confidence:delay=1+x", "delay=1[+]x; accepted: whole numbers such as 3[+]7"),
        ("none.py:make:steps=1", "none.py: no such file; accepted: FILE.py:FUNCTION"),
    ]
    + [
        (f"ancestral:{name}=1", f"'{name}=1' sets no field")
        for name in ("prompts", "parameterization", "objective_params", "schedule", "length", "reads_start", "sampler")
    ],
)
def test_bad_text_is_refused_in_one_line(text, problem):
    with pytest.raises(UserError, match=problem) as error:
        sampler_from(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "values", "problem"),
    [
        ("autoregressive", {"steps": 4}, "steps 4: autoregressive has none; accepted with ancestral, confidence"),
        ("euler", {"correctors": 1}, "accepted with predictor_corrector"),
        ("euler", {"top_k": 2}, "accepted with autoregressive, ordered, ancestral"),
        ("ancestral", {"cache": "dual"}, "cache dual: ancestral has none; accepted with confidence"),
        ("ancestral", {"upstream_compat": True}, "ancestral has none; accepted with confidence, remasking"),
        ("ancestral", {"eta": 0.1}, "eta 0.1: ancestral has none; accepted with remasking"),
        ("ancestral", {"response_interval": 2}, "accepted with confidence"),
    ],
)
def test_fields_of_other_samplers_are_refused(name, values, problem):
    with pytest.raises(UserError, match=problem):
        build_sampler(name, values)


OWN = '''
from typing import NamedTuple
import jax.numpy as jnp
from mdlm_jax.sampling import Trace

class Constant(NamedTuple):
    """Every token is the same."""
    token: int = 3
    temperature: float = 1.0
    def check(self, request): pass
    def draw(self, keys, network, tokens, context):
        masked = tokens == network.mask_id
        zeros = jnp.zeros(tokens.shape)
        return jnp.where(masked, self.token, tokens), Trace(jnp.where(masked, 0, -1), zeros, jnp.zeros(len(tokens)))

def five(steps: int = 1):
    return Constant(5)

def nothing():
    return 7
'''


def test_sampler_from_a_file(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    assert sampler_from(f"{path}:Constant:token=4") == (4, 1.0)
    assert sampler_from(f"{path}:five:steps=2") == (5, 1.0)
    assert type(sampler_from(f"{path}:Constant")) is type(sampler_from(f"{path}:Constant:token=4"))
    with pytest.raises(UserError, match="nothing gave int; accepted: a sampler"):
        sampler_from(f"{path}:nothing")
    with pytest.raises(UserError, match="has no function 'other'"):
        sampler_from(f"{path}:other")
