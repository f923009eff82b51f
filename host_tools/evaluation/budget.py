"""The detector settings that keep to a budget of false accepts and miss the fewest words, and what they promise.

A budget is to be kept to on other streams. So one more false accept is expected than was counted: a threshold just
above the (n + 1)th highest of many peaks lets n + 1 of as many others through on average (Wilks, 1941). What a choice
gives on the very streams that it was made on flatters it, so the promise is cross-validated.

Pure functions of a :class:`host_tools.evaluation.stream_tally.Tally`: nothing here hears.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host_tools.evaluation.stream_tally import FOLDS, Tally
from kws_edge.config import DetectorConfig
from kws_edge.detection.calibration import poisson_interval, wilson

__all__ = ["SMOOTHINGS_MS", "Promise", "by_smoothing", "chosen", "expected_accepts", "miss_interval", "promised"]

SMOOTHINGS_MS = (300.0, 400.0, 500.0, 600.0, 700.0, 800.0)
"""Smoothing times to try, unless one is given."""
_HYSTERESES = (0.2, 0.4, 0.6)
_REFRACTORIES_MS = (500.0, 700.0, 1000.0)
_STEP = 0.01
_LOWEST, _HIGHEST = 50, 97  # steps; below a half, all that is no such keyword is the likelier


@dataclass(frozen=True)
class Promise:
    """What is to be expected of other streams, with 95 % intervals.

    What a choice gives where it was made flatters it. So each fifth of the streams was heard with the settings that the
    other fifths choose.
    """

    missed: int
    words: int
    """Under all conditions."""
    distinct: int
    """Words as they were said: one that is heard under several conditions tells little more than under one."""
    false_accepts: tuple[int, int]
    """Counted with the settings that all choose, and expected: in the fifths, or one more than counted if that is
    more."""
    hours: float

    @property
    def miss_interval(self) -> tuple[float, float]:
        """Wilson's, of the distinct words."""
        return miss_interval(self.missed, self.words, self.distinct)

    @property
    def accept_interval(self) -> tuple[float, float]:
        """Per hour, Poisson's, of what was counted and what is expected."""
        counted, expected = map(poisson_interval, self.false_accepts)
        return counted[0] / self.hours, expected[1] / self.hours

    def to_dict(self) -> dict[str, Any]:
        """The numbers as a JSON-ready dict."""
        return {
            "false_reject_rate": round(self.missed / max(1, self.words), 5),
            "false_reject_interval_95": [round(x, 5) for x in self.miss_interval],
            "words": self.words,
            "distinct_words": self.distinct,
            "false_accepts_per_hour": round(self.false_accepts[1] / self.hours, 3),
            "interval_95": [round(x, 3) for x in self.accept_interval],
            "hours": round(self.hours, 3),
        }

    def __str__(self) -> str:
        v = self.to_dict()
        (low, high), (least, most) = v["false_reject_interval_95"], v["interval_95"]
        return (
            f"{100 * v['false_reject_rate']:.1f} % of words missed ({100 * low:.1f} to {100 * high:.1f}, from"
            f" {self.distinct} words), {v['false_accepts_per_hour']:.2f} false accepts per hour ({least:.2f} to"
            f" {most:.2f}, from {self.hours:.2f} hours)"
        )


def miss_interval(missed: int, words: int, distinct: int) -> tuple[float, float]:
    """Wilson's interval of the share that was missed of words, of which only some are distinct."""
    return wilson(missed / max(1, words) * distinct, distinct)


def expected_accepts(counted: float) -> float:
    """False accepts to be expected in as many other hours: one more than counted."""
    return counted + 1


def by_smoothing(
    tally: Callable[[DetectorConfig], Tally],
    base: DetectorConfig,
    smoothings: Sequence[float],
    most: float,
    folds: NDArray[np.bool_],
) -> list[DetectorConfig]:
    """At each smoothing time where there is one, the lowest threshold that keeps to the budget; see :func:`chosen`."""

    def lowest(config: DetectorConfig) -> float | None:
        return _lowest(lambda t: _keeps(tally(dataclasses.replace(config, threshold=t)), most, folds))

    configs = [dataclasses.replace(base, smoothing_ms=value) for value in smoothings]
    return [dataclasses.replace(c, threshold=t) for c in configs if (t := lowest(c)) is not None]


def _keeps(tally: Tally, most: float, folds: NDArray[np.bool_]) -> bool:
    return expected_accepts(tally.places[folds].sum() / folds.mean()) <= most


def chosen(
    tally: Callable[[DetectorConfig], Tally],
    base: DetectorConfig,
    smoothings: Sequence[float],
    most: float,
    folds: NDArray[np.bool_],
) -> DetectorConfig | None:
    """The settings that some folds choose; None where no setting keeps to the budget.

    At each smoothing time the lowest common threshold from 0.5 on is taken that keeps to the budget. Of these the one
    with the fewest errors (misses and duplicates) wins. Where they tie, fewer false accepts win, and then the shorter
    smoothing. Hysteresis and refractory time are chosen in the same way.

    Parameters
    ----------
    tally : callable
        What a detector does on the streams.
    base : DetectorConfig
        All other settings.
    smoothings : sequence of float
        Smoothing times to try.
    most : float
        False accepts to be expected in as many hours as all folds have.
    folds : numpy.ndarray, shape (folds,), bool
    """
    found = by_smoothing(tally, base, smoothings, most, folds)
    if not found:
        return None

    def errors(config: DetectorConfig) -> int:
        return tally(config).of(folds).errors

    best = min(found, key=lambda config: (errors(config), tally(config).places[folds].sum(), config.smoothing_ms))
    for name, values in (("hysteresis", _HYSTERESES), ("refractory_ms", _REFRACTORIES_MS)):
        for value in values:
            change: dict[str, Any] = {name: value}
            other = dataclasses.replace(best, **change)
            if errors(other) < errors(best) and _keeps(tally(other), most, folds):
                best = other
    return best


def promised(
    tally: Callable[[DetectorConfig], Tally],
    choice: Callable[[NDArray[np.bool_]], DetectorConfig | None],
    config: DetectorConfig,
    hours: float,
    distinct: int,
) -> Promise:
    """What settings that were chosen promise.

    Parameters
    ----------
    tally : callable
        What a detector does on the streams.
    choice : callable
        Settings that some folds choose: shape (folds,), bool. None: there are none, and all folds' are taken.
    config : DetectorConfig
        Settings that all folds choose.
    hours : float
        Length of the streams without words.
    distinct : int
        Words that are said in the others.
    """
    parts = [tally(choice(~fold) or config).of(fold) for fold in np.eye(FOLDS, dtype=bool)]
    places, words, missed, _ = (int(np.sum(values)) for values in zip(*parts, strict=True))
    counted = int(tally(config).places.sum())
    return Promise(missed, words, distinct, (counted, int(max(places, expected_accepts(counted)))), hours)


def _lowest(within: Callable[[float], bool]) -> float | None:
    """The lowest threshold on the grid that keeps to the budget, by bisection.

    False accepts fall with the threshold, but for rare ones that another one's refractory time had hidden.
    """
    low, high = _LOWEST, _HIGHEST
    if not within(high * _STEP):
        return None
    while low < high:
        middle = (low + high) // 2
        if within(round(middle * _STEP, 2)):
            high = middle
        else:
            low = middle + 1
    return round(high * _STEP, 2)
