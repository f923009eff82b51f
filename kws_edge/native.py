"""Native libraries that write to standard error on their own."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO

__all__ = ["quiet_native"]


@contextlib.contextmanager
def quiet_native(log: IO[bytes] | None = None) -> Iterator[None]:
    """Drop what native code writes to the process's standard error, or write it to `log`.

    ALSA, PortAudio and TFLite's delegates announce and complain there, line after line, of things that are normal or
    that they report by an error code, too; that code becomes this package's one-line error.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a process may have no standard error
            sys.stderr.flush()
            saved = os.dup(2)
            stack.callback(os.close, saved)
            with open(os.devnull, "wb") as null:
                os.dup2((log or null).fileno(), 2)
            stack.callback(os.dup2, saved, 2)
        yield
