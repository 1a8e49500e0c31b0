"""Makes malloc keep freed memory: XLA on a CPU allocates its temporaries with malloc in every step."""

import ctypes
import platform

# names of glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """Configures glibc's malloc to keep freed memory. Call this before importing jax or anything that starts threads.

    By default malloc maps and unmaps every large array in each step, and the kernel zeroes its pages each time. The
    cost of keeping memory is that the process never shrinks. Other C libraries are left unchanged.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)
    # one arena: other threads can reuse memory that one thread freed
    mallopt(M_ARENA_MAX, 1)
