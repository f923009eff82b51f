"""Intervals of confidence of what is counted."""

from __future__ import annotations

import math

__all__ = ["poisson_interval", "wilson"]


def wilson(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a proportion, at 95 % by default (Wilson, 1927)."""
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def poisson_interval(count: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval of the mean of a Poisson variable of which `count` was observed (Garwood, 1936).

    Parameters
    ----------
    count : int
        Events that were counted, at least 0.
    confidence : float
        In (0, 1).
    """
    from scipy.stats import chi2

    tail = (1 - confidence) / 2
    low = chi2.ppf(tail, 2 * count) / 2 if count else 0.0
    return float(low), float(chi2.ppf(1 - tail, 2 * count + 2) / 2)
