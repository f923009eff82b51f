"""The sensitivity: one number that sets all thresholds, by what a model file was measured to do with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kws_edge.config import DetectorConfig
from kws_edge.errors import ConfigError
from kws_edge.ranges import number
from kws_edge.settings import Settings, option
from kws_edge.text import shown

__all__ = ["OWN", "SENSITIVITY", "OperatingPoint", "point_at", "read_points"]

SENSITIVITY = number(0, 1)
"""Allowed values: 0 hears least, and 1 hears most."""
OWN = 0.5
"""The sensitivity of the model file's own thresholds."""


@dataclass(frozen=True, kw_only=True)
class OperatingPoint(Settings):
    """Thresholds of a model, and what was measured with them on development streams.

    Raises
    ------
    ConfigError
        If a value is out of range.

    Examples
    --------
    >>> from kws_edge import DetectorConfig, OperatingPoint
    >>> point = OperatingPoint(sensitivity=0.5, threshold=0.8, misses=0.06, false_accepts_per_hour=0.9)
    >>> point.applied(DetectorConfig()).threshold
    0.8
    >>> print(point)
    sensitivity 0.5: expect 6.0 % of commands missed and 0.9 false accepts an hour
    """

    sensitivity: float = option(SENSITIVITY)
    """0 hears least, 1 hears most."""
    threshold: float = option(DetectorConfig.range_of("threshold"))
    """Threshold of the keywords that have none of their own."""
    thresholds: dict[str, float] = field(default_factory=dict)
    """Thresholds of single keywords."""
    misses: float = option(number(0, 1))
    """Share of commands that are missed."""
    false_accepts_per_hour: float = option(number(0, 1e6))
    """False accepts an hour to expect on other sound without commands."""

    def __post_init__(self) -> None:
        self._check()
        self.applied(DetectorConfig())  # checks the keywords' thresholds

    def __str__(self) -> str:
        accepts = self.false_accepts_per_hour
        return (
            f"sensitivity {self.sensitivity:g}: expect {100 * self.misses:.1f} % of commands missed and "
            f"{accepts:.{1 if accepts < 100 else 0}f} false accepts an hour"
        )

    def applied(self, config: DetectorConfig) -> DetectorConfig:
        """`config` with these thresholds."""
        return dataclasses.replace(config, threshold=self.threshold, thresholds=self.thresholds)


def read_points(values: Any) -> tuple[OperatingPoint, ...]:
    """Read the list of operating points of a model file.

    Raises
    ------
    ConfigError
        If it is no list of points from a sensitivity of 0 to one of 1, through 0.5, with thresholds of the same
        keywords.
    """
    if not isinstance(values, list):
        raise ConfigError(f"operating_points must be a list, got {shown(values)}")
    points = tuple(map(OperatingPoint.from_dict, values))
    at = [point.sensitivity for point in points]
    if at[:1] != [0] or at[-1:] != [1] or OWN not in at or at != sorted(set(at)):
        raise ConfigError(f"the sensitivities of operating_points must rise from 0 through {OWN} to 1, got {shown(at)}")
    if any(point.thresholds.keys() != points[0].thresholds.keys() for point in points):
        raise ConfigError("each of operating_points must have thresholds of the same keywords")
    return points


def point_at(points: Sequence[OperatingPoint], sensitivity: float) -> OperatingPoint:
    """The operating point at a sensitivity; between two points of `points`, all numbers are interpolated.

    Raises
    ------
    ConfigError
        If `sensitivity` is out of range.
    """
    sensitivity = SENSITIVITY.check("sensitivity", sensitivity)
    at = [point.sensitivity for point in points]

    def between(values: list[float]) -> float:
        return float(np.interp(sensitivity, at, values))

    return OperatingPoint(
        sensitivity=sensitivity,
        threshold=between([point.threshold for point in points]),
        thresholds={word: between([point.thresholds[word] for point in points]) for word in points[0].thresholds},
        misses=between([point.misses for point in points]),
        false_accepts_per_hour=between([point.false_accepts_per_hour for point in points]),
    )
