"""Measures what a detector does at other thresholds: the points behind the sensitivity of a model file.

All thresholds are shifted together along the logit. The ends are found on the measured curve. Between them and the
model's own thresholds, which are at 0.5, the points lie at equal shifts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from host_tools.evaluation.budget import expected_accepts
from host_tools.evaluation.stream_tally import Tally
from kws_edge.config import DetectorConfig
from kws_edge.detection.sensitivity import OWN, OperatingPoint

__all__ = ["operating_points", "shifted"]

_FACTOR = 10.0
"""Times as many false accepts as the model's own thresholds give, or as few, at the ends."""
_MOST_MISSED = 0.5
"""Share of commands that are missed at most, at the lower end."""
_UNIT = 0.1  # of shifts
_LEAST, _MOST = 10, 40  # units; a shift of 1 always makes a difference, and one of 4 is next to everything or nothing
_STEPS = 5
"""Points between the model's own thresholds and an end, with the end."""
_LOWEST, _HIGHEST = 0.01, 0.99


def shifted(config: DetectorConfig, shift: float) -> DetectorConfig:
    """`config` with all its thresholds shifted along the logit; at a shift of 0 `config` itself.

    Parameters
    ----------
    config : DetectorConfig
    shift : float
        Added to the logit. Thresholds stay from 0.01 to 0.99, if they were in this range.
    """

    def moved(threshold: float) -> float:
        odds = threshold / max(1 - threshold, 1e-9) * math.exp(shift)
        return min(max(round(odds / (1 + odds), 4), min(threshold, _LOWEST)), max(threshold, _HIGHEST))

    if not shift:
        return config
    thresholds = {word: moved(value) for word, value in config.thresholds.items()}
    return dataclasses.replace(config, threshold=moved(config.threshold), thresholds=thresholds)


def operating_points(
    tally: Callable[[DetectorConfig], Tally], config: DetectorConfig, hours: float
) -> tuple[OperatingPoint, ...]:
    """Misses and false accepts at sensitivities from 0 to 1.

    At 1, false accepts are at most ten times those at 0.5. At 0, they are a tenth, or none in these streams if a tenth
    is less than that. But no more than half of the commands are missed there.

    Parameters
    ----------
    tally : callable
        Gives the tally of a detector on the streams.
    config : DetectorConfig
        The model's own settings.
    hours : float
        Length of the streams without words.
    """

    def accepts(units: int) -> float:
        return expected_accepts(tally(shifted(config, units * _UNIT)).places.sum())

    def missed(units: int) -> float:
        counts = tally(shifted(config, units * _UNIT))
        return float(counts.missed.sum() / max(1, counts.words.sum()))

    few = max(expected_accepts(0), accepts(0) / _FACTOR)
    quiet = _first(lambda units: accepts(units) <= few)
    deaf = _first(lambda units: missed(units) > _MOST_MISSED)
    many = _first(lambda units: accepts(-units) > _FACTOR * accepts(0))
    up, down = (max(_LEAST, units) for units in (min(quiet, deaf - 1), many - 1))
    points = []
    for i in range(2 * _STEPS + 1):
        end = up if i < _STEPS else down
        one = shifted(config, end * _UNIT * (_STEPS - i) / _STEPS)
        counts = tally(one)
        points.append(
            OperatingPoint(
                sensitivity=round(i / (2 * _STEPS), 6),
                threshold=one.threshold,
                thresholds=one.thresholds,
                misses=round(float(counts.missed.sum() / max(1, counts.words.sum())), 5),
                false_accepts_per_hour=round(expected_accepts(float(counts.places.sum())) / hours, 3),
            )
        )
    assert points[_STEPS].sensitivity == OWN
    return tuple(points)


def _first(holds: Callable[[int], bool]) -> int:
    """The smallest shift from which on something holds, by bisection; one more than the largest if it never does."""
    low, high = _LEAST, _MOST + 1
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return high
