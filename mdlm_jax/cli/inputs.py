"""What a verb reads, checked before its slow imports, so that a mistake is answered at once."""

import argparse
import math
import pathlib
from typing import Any

from mdlm_jax.errors import UserError


def check_exists(path: pathlib.Path, accepted: str) -> None:
    """Raises UserError if there is nothing at `path`; the message says what is accepted there."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; accepted: {accepted}")


def check_at_least(options: argparse.Namespace, **least: int) -> None:
    """Raises UserError if an option that is given is less than its least value or no number."""
    for name, value in least.items():
        given = getattr(options, name)
        if given is not None and not given >= value:
            raise UserError(f"--{name.replace('_', '-')}={given}; accepted: {value} or more")


def check_finite(options: argparse.Namespace, *names: str) -> None:
    """Raises UserError if an option that is given is no finite number."""
    for name in names:
        if (given := getattr(options, name)) is not None and not math.isfinite(given):
            raise UserError(f"--{name.replace('_', '-')}={given}; accepted: a finite number")


def check_files(option: str, patterns: str, field: str | None) -> None:
    """Raises UserError if globs name no file, or a field is given and no file has fields."""
    from mdlm_jax.data.files import expand, reads_field

    files = expand(option, patterns)
    if field is not None and not any(map(reads_field, files)):
        raise UserError(f"--field={field}: {option}={patterns} names .txt files alone; accepted: without --field")


def check_model(path: pathlib.Path) -> Any:
    """The config of the trained run at `path`, or None for a public model. Raises UserError if there is neither."""
    from mdlm_jax.config import from_json
    from mdlm_jax.runs.saved import saved_steps
    from mdlm_jax.weights.source import holds_weights

    if holds_weights(path):
        return None
    config = from_json(path / "config.json")
    if not saved_steps(path / "checkpoints"):
        raise UserError(f"{path / 'checkpoints'}: no checkpoint; accepted: a run that has saved one")
    return config
