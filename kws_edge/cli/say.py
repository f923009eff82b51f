"""Notices for the user, beside the results."""

from __future__ import annotations

import sys

from kws_edge.text import printable

__all__ = ["say"]


def say(text: str) -> None:
    """Print a notice to standard error, without disturbing the meter."""
    clear = "\r\x1b[K" if sys.stderr.isatty() else ""
    print(f"{clear}kws-edge: {printable(text)}", file=sys.stderr, flush=True)
