"""Intervals of confidence of what is counted."""

from __future__ import annotations

import math

from kws_edge.calibration import poisson_interval

__all__ = ["poisson_interval", "wilson"]


def wilson(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a proportion, at 95 % by default (Wilson, 1927)."""
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
