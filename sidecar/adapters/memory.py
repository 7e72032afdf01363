"""Free memory that the C library keeps for later: one pool of it, given back now and then (mallopt(3))."""

from __future__ import annotations

import ctypes
import sys

_ARENA_MAX = -8  # of glibc's malloc.h


def share() -> None:
    """Let all threads take from one pool: by default each has its own, and keeps what its largest work once took.

    They hardly allocate at once, since most of it is done under the GIL. Where the C library is not glibc, nothing
    happens, here and below.
    """
    if (libc := _glibc()) is not None:
        libc.mallopt(_ARENA_MAX, 1)


def give_back() -> None:
    """Return what is free to the system."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") else None
