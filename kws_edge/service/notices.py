"""Notices about what others send, who decide how often."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

__all__ = ["seldom"]


def seldom(notice: Callable[[str], None], every_s: float = 1.0) -> Callable[[str], None]:
    """`notice`, called at most once in `every_s` seconds. What comes in between is not told."""
    last = -math.inf

    def told(text: str) -> None:
        nonlocal last
        if (now := time.monotonic()) >= last + every_s:
            last = now
            notice(text)

    return told
