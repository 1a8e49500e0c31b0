"""What several tests share, made when the first of them needs it."""

import functools


@functools.cache
def once(make):
    """What `make` returns. Programs are compiled for each object, so that one object serves all tests of a module."""
    return make()
