"""Handle native libraries that write to standard error on their own."""

from __future__ import annotations

import contextlib
import os
import sys
from _thread import allocate_lock  # threading's own Lock, without the rest of it
from collections.abc import Iterator
from typing import IO

__all__ = ["quiet_native"]

_lock = allocate_lock()
_depth = 0
_saved = -1


@contextlib.contextmanager
def quiet_native(log: IO[bytes] | None = None) -> Iterator[None]:
    """Drop the output of native code to the process's standard error, or write it to `log`.

    TFLite's delegates print many lines about normal events, or about failures that they also report by an error code.
    This package turns the error code into an error of one line. Several threads may use this at once.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a process may have no standard error
            _redirect(log)
            stack.callback(_restore)
        yield


def _redirect(log: IO[bytes] | None) -> None:
    global _depth, _saved
    with _lock, open(os.devnull, "wb") as null:
        if not _depth:
            if sys.stderr:
                sys.stderr.flush()
            _saved = os.dup(2)
        _depth += 1
        os.dup2((log or null).fileno(), 2)


def _restore() -> None:
    global _depth
    with _lock:
        _depth -= 1
        if not _depth:
            os.dup2(_saved, 2)
            os.close(_saved)
