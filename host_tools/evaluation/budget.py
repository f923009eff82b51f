"""Chooses the detector settings that keep to a budget of false accepts and miss the fewest words.

The settings must keep to the budget on other streams. So one more false accept is expected than was counted. A
threshold just above the (n + 1)th highest of many peaks lets n + 1 of as many others through on average (Wilks, 1941).
Results on the streams of the choice are too good, so the promise is cross-validated.

These are pure functions of a :class:`host_tools.evaluation.stream_tally.Tally`. No audio is heard here.
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

__all__ = [
    "SMOOTHINGS_MS",
    "STEP_SMOOTHINGS_MS",
    "Promise",
    "by_smoothing",
    "chosen",
    "expected_accepts",
    "least_expected",
    "miss_interval",
    "promised",
]

SMOOTHINGS_MS = (300.0, 400.0, 500.0, 600.0, 700.0, 800.0)
"""Smoothing times to try, unless one is given."""
STEP_SMOOTHINGS_MS = (40.0, 80.0, 120.0, 160.0, 240.0)
"""The same for a network with state, whose answers are short peaks."""
_HYSTERESES = (0.2, 0.4, 0.6)
_REFRACTORIES_MS = (500.0, 700.0, 1000.0)
_STEP = 0.01
_LOWEST, _HIGHEST = 50, 97  # steps; below a half, the keyword is less likely than everything else together


@dataclass(frozen=True)
class Promise:
    """Misses and false accepts to expect on other streams, with 95 % intervals.

    Results on the streams of a choice are too good. So each fifth of the streams was heard with the settings that the
    other fifths choose. No promise is better than the chosen settings were on all streams.
    """

    missed: int
    words: int
    """Number of words under all conditions."""
    distinct: int
    """Number of words as they were said. Hearing a word under more conditions tells little more about it."""
    false_accepts: tuple[int, int]
    """Counted and expected. Settings of all fifths were used to count. Expected is the larger of two numbers: the sum
    over the fifths, and one more than counted."""
    hours: float

    @property
    def miss_interval(self) -> tuple[float, float]:
        """Wilson's interval of the share of missed words, for the number of distinct words."""
        return miss_interval(self.missed, self.words, self.distinct)

    @property
    def accept_interval(self) -> tuple[float, float]:
        """Poisson intervals per hour: the lower bound of the counted number, the upper bound of the expected one."""
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
    """Wilson's interval of the share of missed words, for the number of distinct words.

    Parameters
    ----------
    missed, words : int
        Words missed and words said, under all conditions.
    distinct : int
        Words as they were said, each counted once.
    """
    return wilson(missed / max(1, words) * distinct, distinct)


def expected_accepts(counted: float) -> float:
    """False accepts to expect in as many other hours: one more than counted."""
    return counted + 1


def by_smoothing(
    tally: Callable[[DetectorConfig], Tally],
    base: DetectorConfig,
    smoothings: Sequence[float],
    most: float,
    folds: NDArray[np.bool_],
) -> list[DetectorConfig]:
    """Settings with the lowest threshold that keeps to the budget, for each smoothing time that has one.

    The parameters are those of :func:`chosen`.
    """

    def lowest(config: DetectorConfig) -> float | None:
        return _lowest(lambda t: _keeps(tally(dataclasses.replace(config, threshold=t)), most, folds))

    configs = [dataclasses.replace(base, smoothing_ms=value) for value in smoothings]
    return [dataclasses.replace(c, threshold=t) for c in configs if (t := lowest(c)) is not None]


def least_expected(
    tally: Callable[[DetectorConfig], Tally], base: DetectorConfig, smoothings: Sequence[float]
) -> float:
    """The fewest false accepts that some setting lets expect in as many other hours. See :func:`chosen`."""
    highest = [dataclasses.replace(base, smoothing_ms=value, threshold=_HIGHEST * _STEP) for value in smoothings]
    return min(expected_accepts(int(tally(config).places.sum())) for config in highest)


def _keeps(tally: Tally, most: float, folds: NDArray[np.bool_]) -> bool:
    return expected_accepts(tally.places[folds].sum() / folds.mean()) <= most


def chosen(
    tally: Callable[[DetectorConfig], Tally],
    base: DetectorConfig,
    smoothings: Sequence[float],
    most: float,
    folds: NDArray[np.bool_],
) -> DetectorConfig | None:
    """The settings that some folds choose, or None if no setting keeps to the budget.

    For each smoothing time, the lowest common threshold of at least 0.5 that keeps to the budget is tried. The settings
    with the fewest errors (misses and duplicates) win. If they tie, fewer false accepts win, and then the shorter
    smoothing. Hysteresis and refractory time are chosen in the same way.

    Parameters
    ----------
    tally : callable
        Gives the tally of a detector on the streams.
    base : DetectorConfig
        All other settings.
    smoothings : sequence of float
        Smoothing times to try.
    most : float
        False accepts that may be expected in as many hours as all folds have.
    folds : numpy.ndarray, shape (folds,), bool
        The folds that choose.
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
    """The promise of settings that were chosen.

    Parameters
    ----------
    tally : callable
        Gives the tally of a detector on the streams.
    choice : callable
        Maps folds, shape (folds,), bool, to the settings that they choose. If it returns None, `config` is used.
    config : DetectorConfig
        Settings that all folds choose.
    hours : float
        Length of the streams without words.
    distinct : int
        Number of words that are said in the other streams.
    """
    parts = [tally(choice(~fold) or config).of(fold) for fold in np.eye(FOLDS, dtype=bool)]
    places, words, missed, _ = (int(np.sum(values)) for values in zip(*parts, strict=True))
    counted, _, missed_here, _ = (int(np.sum(values)) for values in tally(config))
    expected = int(max(places, expected_accepts(counted)))
    return Promise(max(missed, missed_here), words, distinct, (counted, expected), hours)


def _lowest(within: Callable[[float], bool]) -> float | None:
    """The lowest threshold on the grid that keeps to the budget, by bisection.

    A higher threshold gives fewer false accepts, except in rare cases: the refractory time of one may hide another.
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
