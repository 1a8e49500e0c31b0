"""Shared fixtures; every function of the package is checked against its jaxtyping shapes while the tests run."""

import os
import pathlib
import signal
import socket
import tempfile
from collections import Counter
from importlib.metadata import version

from tests.run_folders import CHEAP_FLAGS

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# programs are small and many: most of the time goes into compiling them
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    if version("jax").startswith("0.10.")  # later ones have no other emitters
    else CHEAP_FLAGS,
)

# what the processes of one run compile they share with each other, and with other runs that are given the same
# temporary folder, but not with the user
if not os.environ.get("JAX_COMPILATION_CACHE_DIR", "").startswith(tempfile.gettempdir()):
    _compiled = tempfile.TemporaryDirectory()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name

# a shell's background job ignores Ctrl-C, and so would every command that a test interrupts
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from jaxtyping import install_import_hook

install_import_hook("mdlm_jax", "beartype.beartype")

import jax  # noqa: E402
import pytest  # noqa: E402


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """For a test marked few(n), keeps the first n parameters in the default tier and marks the others slow."""
    seen = Counter()
    for item in items:
        if few := item.get_closest_marker("few"):
            family = item.nodeid.partition("[")[0]
            seen[family] += item.get_closest_marker("slow") is None
            if seen[family] > few.args[0]:
                item.add_marker("slow")


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """Every compiled program maps pieces of memory, of which Linux gives a process 65,530."""
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_text().count("\n") > 20_000:
        jax.clear_caches()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]
