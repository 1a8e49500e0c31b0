"""What a verb reads, checked before its slow imports, so that a mistake is answered at once."""

import argparse
import pathlib

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


def check_model(path: pathlib.Path) -> None:
    """Raises UserError if `path` holds neither a run with a valid config nor a public model."""
    from mdlm_jax.config import from_json
    from mdlm_jax.weights.source import holds_weights

    if not holds_weights(path):
        from_json(path / "config.json")
