"""How the service keeps its memory small for months."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

__all__ = ["settle", "share_heap", "tidy"]

_ARENA_MAX, _MMAP_THRESHOLD = -8, -3  # of glibc's malloc.h
_LARGE = 128 * 1024


def share_heap() -> None:
    """Let all threads take memory from one heap. Otherwise each has a heap of its own, with gaps of its own.

    Blocks of more than 128 kB always lie outside of it, so that the system gets them back. Call this before there are
    threads. It does nothing with another C library than glibc.
    """
    with suppress(AttributeError, OSError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(_ARENA_MAX, 1)
        library.mallopt(_MMAP_THRESHOLD, _LARGE)


def settle() -> None:
    """Take what is there now as lasting, apart from garbage. Call this when all has started, and after a reload."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def tidy() -> None:
    """Free garbage, and what Python keeps for objects to come. After :func:`settle` this takes a millisecond.

    By itself Python does so when a quarter more objects are there than before. With all that loads at the start, this
    is seldom: meanwhile what it keeps grows by some hundred kilobytes.
    """
    gc.collect()
