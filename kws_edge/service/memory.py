"""How the service's threads share memory."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress
from typing import Any

__all__ = ["give_back", "share_heap"]

_ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h


def share_heap() -> None:
    """Let all threads take memory from one heap. Each would get a heap of its own, with gaps of its own.

    Call this before there are threads. It does nothing where the C library has one heap anyway.
    """
    _call("mallopt", _ARENA_MAX, 1)


def give_back() -> None:
    """Give the memory that the start needed, and that is free now, back to the system."""
    _call("malloc_trim", 0)


def _call(name: str, *values: int) -> None:
    with suppress(AttributeError, OSError):  # another C library than glibc
        function: Callable[..., Any] = getattr(ctypes.CDLL(None), name)
        function(*values)
