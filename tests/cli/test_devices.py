"""Compiled programs go to the user's cache unless JAX's own variables set another; these tests never use it."""

import os
import pathlib
import tempfile

import jax
import pytest

from mdlm_jax.cli.devices import cache_settings

FOLDER, LEAST = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"


@pytest.mark.parametrize(
    ("environment", "above"),
    [({}, pathlib.Path.home() / ".cache"), ({"XDG_CACHE_HOME": "/x"}, pathlib.Path("/x"))]
    + [({"XDG_CACHE_HOME": ""}, pathlib.Path.home() / ".cache")],
)
def test_programs_go_to_the_users_cache(environment, above):
    """Programs of any size are kept."""
    settings = cache_settings(environment)
    assert pathlib.Path(settings[FOLDER]).parent == above / "mdlm-jax" / "compiled"
    assert settings[LEAST] == 0


def test_jax_variables_take_precedence():
    assert cache_settings({"JAX_COMPILATION_CACHE_DIR": "/y"}) == {LEAST: 0.0}
    assert LEAST not in cache_settings({LEAST.upper(): "2"})
    assert all(hasattr(jax.config, name) for name in (FOLDER, LEAST))


def test_tests_use_a_temporary_cache():
    assert FOLDER not in cache_settings(os.environ)
    assert pathlib.Path(jax.config.jax_compilation_cache_dir).is_relative_to(tempfile.gettempdir())
