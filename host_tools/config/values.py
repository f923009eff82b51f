"""Ranges that several options share."""

from __future__ import annotations

from typing import Any

from kws_edge.ranges import number, whole
from kws_edge.settings import option

__all__ = ["DB", "MILLISECONDS", "SEED", "SHARE", "share"]

SEED = whole(0, 2**32 - 1)
SHARE = number(0, 1)
DB = number(-200, 200)
MILLISECONDS = number(0, 10_000)


def share(default: float, help: str) -> Any:
    """An option that is a share, from 0 to 1."""
    return option(SHARE, default, unit="share", help=help)
