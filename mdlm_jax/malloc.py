"""Sets up glibc's malloc for XLA on a CPU, which allocates and frees its temporaries in every step.

By default malloc maps every large array from the kernel and returns it, and the kernel zeroes its pages each time, 4 kB
by 4 kB: about a fifth of a run's CPU time (`benchmarks/run_memory.py`). To keep all freed memory avoids that, but freed
pieces of many sizes fit badly, and a run of 1M parameters grows to twice its size. So large arrays are mapped and
returned, in huge pages of 2 MB, which cost little, and smaller ones are kept. Where the kernel has no huge pages, all
freed memory is kept.
"""

import ctypes
import os
import pathlib
import platform
import sys

# names of glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -3, -4, -8
MAPPED_BYTES = 32 << 20  # arrays of at least this size are mapped; not more than glibc allows
HUGE_PAGES = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
TUNABLES, TUNABLE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"  # what malloc maps it asks the kernel to make huge
SINCE = (2, 35)  # the first glibc with that tunable


def set_up_malloc() -> None:
    """Sets up malloc in this process. Call this before importing jax or anything that starts threads."""
    if _glibc() is None:
        return
    mallopt = ctypes.CDLL(None).mallopt
    if _kernel() == "always" or (_kernel() == "madvise" and TUNABLE in os.environ.get(TUNABLES, "")):
        mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)
    else:
        mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)
    # one arena: other threads can reuse memory that one thread freed
    mallopt(M_ARENA_MAX, 1)


def return_freed_memory() -> None:
    """Returns all free pages of the heap to the kernel, such as those of a compiler that has ended."""
    if _glibc() is not None:
        ctypes.CDLL(None).malloc_trim(0)


def ask_for_huge_pages() -> None:
    """Starts this process again with glibc's tunable, which malloc reads only when a process starts.

    Its children inherit it. Nothing happens where it would have no effect or was set already, and where the process
    has another malloc.
    """
    glibc, before = _glibc(), os.environ.get(TUNABLES, "")
    other_malloc = "malloc" in os.environ.get("LD_PRELOAD", "")
    if glibc is None or glibc < SINCE or _kernel() != "madvise" or "glibc.malloc.hugetlb" in before or other_malloc:
        return
    tunables = f"{before}:{TUNABLE}" if before else TUNABLE
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | {TUNABLES: tunables})


def _glibc() -> tuple[int, int] | None:
    name, version = platform.libc_ver()
    if name != "glibc":
        return None
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def _kernel() -> str:
    """Which memory the kernel makes huge: always, madvise (where a process asks for it) or never."""
    try:
        return HUGE_PAGES.read_text().partition("[")[2].partition("]")[0]
    except OSError:
        return "never"
