"""Freed memory kept by the process: XLA's temporaries on a CPU come from malloc, anew at every step."""

import ctypes
import platform

# names of glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """Tells glibc's malloc never to give memory back. Call it before jax, or anything else with threads, is imported.

    Otherwise every large array is mapped and unmapped at each step, and its pages are zeroed by the kernel anew. The
    price is that the process stays as large as it ever was. Does nothing where the C library is another one.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)
    # memory that one thread freed serves the others
    mallopt(M_ARENA_MAX, 1)
