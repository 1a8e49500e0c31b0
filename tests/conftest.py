"""Shared fixtures; every function of the package is checked against its jaxtyping shapes while the tests run."""

import os
import pathlib
import socket

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from jaxtyping import install_import_hook

install_import_hook("mdlm_jax", "beartype.beartype")

import pytest  # noqa: E402


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """Public data and golden arrays that are not part of the project, in a folder beside it."""
    folder = pathlib.Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder} with the public data")
    return folder


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]
