"""Compiled programs are kept in the user's cache unless JAX is told otherwise, and never there by these tests."""

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
def test_programs_of_any_size_are_kept_in_the_users_cache(environment, above):
    settings = cache_settings(environment)
    assert pathlib.Path(settings[FOLDER]).parent == above / "mdlm-jax" / "compiled"
    assert settings[LEAST] == 0


def test_what_jax_is_told_by_its_own_variables_is_left_alone():
    assert cache_settings({"JAX_COMPILATION_CACHE_DIR": "/y"}) == {LEAST: 0.0}
    assert LEAST not in cache_settings({LEAST.upper(): "2"})
    assert all(hasattr(jax.config, name) for name in (FOLDER, LEAST))


def test_these_tests_keep_nothing_in_the_users_cache():
    assert FOLDER not in cache_settings(os.environ)
    assert pathlib.Path(jax.config.jax_compilation_cache_dir).is_relative_to(tempfile.gettempdir())
