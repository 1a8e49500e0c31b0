"""glibc's malloc as the command sets it up, in processes of their own."""

import os
import subprocess
import sys

import pytest

from mdlm_jax import malloc

# Prints how many MB of a freed array of 64 MB the process gave back at once, and when it was asked to.
FREED = """
import pathlib, sys
from mdlm_jax import malloc
malloc.HUGE_PAGES = pathlib.Path(sys.argv[1])
malloc.set_up_malloc()
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
resident = lambda: int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4 // 1024
array = libc.malloc(64 << 20)
behind = libc.malloc(1 << 20)
ctypes.memset(array, 1, 64 << 20)
before = resident()
libc.free(array)
kept = before - resident()
malloc.return_freed_memory()
print(kept, before - resident())
"""
STARTED = """
import os, sys
from mdlm_jax.malloc import ask_for_huge_pages
ask_for_huge_pages()
print(os.getpid(), os.environ.get("GLIBC_TUNABLES", ""), *sys.argv[1:], sys.stdin.read())
"""


def run(script, *words, given="", **environment):
    clean = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", malloc.TUNABLES)}
    process = subprocess.Popen(
        [sys.executable, "-c", script, *words],
        env=clean | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process.communicate(given)[0].strip(), process.pid


@pytest.mark.parametrize(
    "kernel, tunables, returned",
    [("[always] madvise never", "", True), ("always [madvise] never", malloc.TUNABLE, True)]
    + [("always [madvise] never", "", False), ("always madvise [never]", malloc.TUNABLE, False), (None, "", False)],
)
def test_large_arrays_are_returned_where_pages_are_huge(tmp_path, kernel, tunables, returned):
    """Elsewhere they are kept, because the kernel would zero them page by page in each step."""
    if kernel is not None:
        (tmp_path / "enabled").write_text(kernel)
    freed, _ = run(FREED, str(tmp_path / "enabled"), **{malloc.TUNABLES: tunables})
    at_once, when_asked = map(int, freed.split())
    assert at_once == pytest.approx(64 if returned else 0, abs=2)
    assert when_asked == pytest.approx(64, abs=2)


@pytest.mark.parametrize("before", ["", "glibc.malloc.tcache_count=7"])
def test_process_starts_again_with_the_tunable(before):
    """It has the same id, arguments and input, and what the user set stays."""
    expected = before
    if malloc._kernel() == "madvise" and malloc._glibc() >= malloc.SINCE:
        expected = ":".join(filter(None, [before, malloc.TUNABLE]))
    said, pid = run(STARTED, "a word", given="input", **{malloc.TUNABLES: before})
    assert said == f"{pid} {expected} a word input"


@pytest.mark.parametrize(
    "name, value", [("LD_PRELOAD", "/lib/libtcmalloc.so.4"), (malloc.TUNABLES, "glibc.malloc.hugetlb=0")]
)
def test_another_choice_of_the_user_stays(monkeypatch, name, value):
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.delenv(malloc.TUNABLES, raising=False)
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("the process was started again"))
    malloc.ask_for_huge_pages()
