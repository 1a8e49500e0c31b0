"""The samplers by name with their fields, so that a wrong one is refused before the slow imports."""

import argparse
from collections.abc import Mapping
from typing import Any

from mdlm_jax.cli.inputs import check_finite
from mdlm_jax.errors import UserError
from mdlm_jax.plugins import FORM, is_plugin

TRUNCATED = ("temperature", "top_k", "top_p")
GUIDED = ("guidance", "guidance_ramp", "guidance_min_time", "guidance_max_time")
REVERSE = ("steps", *GUIDED)
LOOP = ("loop_on", "loop_off", "loop_alpha")
FEATURES = ("prompt_interval", "response_interval", "update_share", "guidance_interval")
SAMPLER_FIELDS = {
    "autoregressive": (*TRUNCATED, "stop", "suppress"),
    "ordered": TRUNCATED,
    "ancestral": (*TRUNCATED, "steps", *GUIDED),
    "first_hitting": (*TRUNCATED, *GUIDED),
    "confidence": (
        *(*TRUNCATED, "steps", *GUIDED, "stop", "upstream_compat", "block_size", "confidence", "rule", "limit"),
        *("cache", *FEATURES, "suppress", "anneal", "delay", "counts", "lead"),
    ),
    "remasking": (*TRUNCATED, "steps", *GUIDED, "strategy", "eta", *LOOP, "upstream_compat"),
    **dict.fromkeys(("posterior", "tweedie", "euler", "tau_leaping"), REVERSE),
    "predictor_corrector": (*REVERSE, "correctors"),
    "metropolis": ("steps",),
    "gaussian": ("temperature", "steps"),
}
CHOICES = {
    "confidence": ("probability", "margin", "entropy", "random", "left"),
    "rule": ("quota", "threshold", "dynamic", "factor", "entropy_bound"),
    "cache": ("none", "prefix", "dual", "sub_block", "features"),
    "counts": ("linear", "dllm_linear", "dllm_cosine", "smdm", "cosine", "arccos"),
}


def check_sampler(text: str, values: Mapping[str, Any] | None = None) -> None:
    """Checks the names in a sampler's text, 'NAME:FIELD=VALUE,..'. A sampler of the user's own is not checked.

    Args:
        text: As `--sampler` takes it.
        values: More of its fields.

    Raises:
        UserError: There is no sampler of this name, or it has no such field.
    """
    name, _, given = text.strip().partition(":")
    if name not in SAMPLER_FIELDS:
        if not is_plugin(text):
            raise UserError(f"no sampler {name!r}; accepted: {', '.join(SAMPLER_FIELDS)}, or {FORM}")
        return
    own = SAMPLER_FIELDS[name]
    for item in given.split(",") if given else ():
        field, equals, value = (part.strip() for part in item.partition("="))
        if field not in own or not equals:
            raise UserError(f"sampler {text!r}: {item!r} sets no field; accepted: FIELD=VALUE with {', '.join(own)}")
        _check_choice(f"sampler {text!r}: {field}={value}", field, value)
    for field, value in (values or {}).items():
        if field not in own:
            others = [other for other, fields in SAMPLER_FIELDS.items() if field in fields]
            option = f"--{field.replace('_', '-')}={value}"
            raise UserError(f"{option}: sampler {name} has no such field; accepted with {', '.join(others)}")


def check_fields(options: argparse.Namespace) -> None:
    """Raises UserError for values of the fields' options that no sampler accepts."""
    check_finite(options, "temperature", "guidance", "limit")
    if options.top_p is not None and not 0 < options.top_p <= 1:
        raise UserError(f"--top-p={options.top_p}; accepted: above 0 and at most 1")
    for field in CHOICES:
        if (value := getattr(options, field)) is not None:
            _check_choice(f"--{field}={value}", field, value)


def _check_choice(given: str, field: str, value: str) -> None:
    if field in CHOICES and value not in CHOICES[field]:
        raise UserError(f"{given}; accepted: {', '.join(CHOICES[field])}")
