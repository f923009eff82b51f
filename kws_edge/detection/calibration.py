"""Thresholds for a place, from what the model hears there while nobody gives a command."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kws_edge.config import DetectorConfig
from kws_edge.detection.detector import Detector
from kws_edge.errors import ConfigError
from kws_edge.text import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CONFIDENCE", "MARGIN", "Choice", "Evidence", "choose", "poisson_interval", "poisson_upper", "wilson"]

CONFIDENCE = 0.95
MARGIN = 0.15
"""How far below the model file's threshold a calibrated one may lie."""
_STEP = 0.01
_HIGHEST = 0.99
_CHUNK = 4096


def _cdf(k: int, mean: float) -> float:
    """Probability of at most `k` events where `mean` are expected."""
    i = np.arange(1, k + 1)
    return math.exp(-mean) + float(np.exp(i * math.log(mean) - mean - np.cumsum(np.log(i))).sum())


def poisson_upper(k: int, confidence: float = CONFIDENCE) -> float:
    """The largest mean that `k` events do not contradict (one-sided): of which ``P(at most k) = 1 - confidence``.

    Found by bisection of the distribution function, which falls as the mean rises. With no event it is
    ``-ln(1 - confidence)``, 3.0 at 95 %.
    """
    low, high = 0.0, k + 10 + 10 * math.sqrt(k + 1)
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _cdf(k, middle) > 1 - confidence else (low, middle)
    return high


def poisson_interval(k: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact two-sided interval of the mean of a Poisson variable of which `k` was observed (Garwood, 1936)."""
    tail = (1 - confidence) / 2
    # P(at least k) = tail at the lower end: P(at most k - 1) = 1 - tail.
    return (poisson_upper(k - 1, tail) if k else 0.0), poisson_upper(k, 1 - tail)


def wilson(successes: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a proportion, at 95 % by default (Wilson, 1927)."""
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
    return max(0.0, low), min(1.0, high)  # which rounding may leave


class Evidence:
    """Posteriors of a place in which no command was spoken, and what a detector makes of them.

    They are kept as one byte each, in 1/256: exactly as an INT8 softmax gives them, 0.4 MB an hour of 12 labels.

    Parameters
    ----------
    labels : sequence of str
    config : DetectorConfig
        Of the model file, with what is to be changed but the thresholds.
    step_s, clip_s
        As for :class:`kws_edge.Detector`.
    """

    def __init__(self, labels: Sequence[str], config: DetectorConfig, *, step_s: float, clip_s: float) -> None:
        self.labels, self.config = tuple(labels), config
        self._times = {"step_s": step_s, "clip_s": clip_s}
        self._rows = bytearray()
        detector = self._detector(config.thresholds)
        self.defaults = {word: config.threshold_of(word) for word in detector.keywords}
        """The model file's threshold of each active keyword."""
        self.floors = {word: max(_STEP, round(default - MARGIN, 6)) for word, default in self.defaults.items()}
        """The lowest threshold that each may get."""
        self._known: dict[tuple[float, ...], dict[str, int]] = {}
        self._loud = np.empty((0, len(self.labels)), np.uint8)
        self._peaks: dict[str, float] = {}

    def _detector(self, thresholds: Mapping[str, float]) -> Detector:
        return Detector(self.labels, dataclasses.replace(self.config, thresholds=dict(thresholds)), **self._times)

    def add(self, posteriors: NDArray[np.float32]) -> None:
        """Keep the posteriors of one inference, shape (len(labels),), floating in [0, 1]."""
        self._rows += np.clip(np.rint(posteriors * 256), 0, 255).astype(np.uint8).tobytes()

    @property
    def hours(self) -> float:
        """Length of what was heard."""
        return len(self._rows) // len(self.labels) * self._times["step_s"] / 3600

    @property
    def grid(self) -> list[float]:
        """The thresholds that are tried, ascending: the model file's own and hundredths."""
        lowest = min(self.floors.values())
        steps = [round(lowest + i * _STEP, 6) for i in range(int((_HIGHEST - lowest) / _STEP + 1.5))]
        return sorted({*steps, *self.defaults.values()})

    def close(self) -> None:
        """All has been added; anything else is asked after this.

        From here on only the inferences near which some active keyword has a posterior above the lowest release level
        are looked at: between those, the detector comes to rest, and stays there.
        """
        rows = np.frombuffer(self._rows, np.uint8).reshape(-1, len(self.labels))
        detector = self._detector(self.floors)
        lowest = np.where(detector.active, np.floor(detector.releases * 256), 256)
        loud = np.any(rows >= lowest, axis=1)
        averaged = detector.smoothing_steps
        before = detector.spoken_steps if self.config.speech_margin else averaged
        after = averaged + detector.refractory_steps + (detector.armed_steps if detector.wake is not None else 0) + 2
        near = np.convolve(loud, np.ones(before + after + 1))[before : before + len(loud)] > 0 if len(loud) else loud
        self._loud = rows[near]
        for word in self.defaults:
            sums = np.cumsum([0, *self._loud[:, self.labels.index(word)]])
            self._peaks[word] = (sums[averaged:] - sums[:-averaged]).max(initial=0) / averaged / 256
        self._known.clear()

    def false_accepts(self, thresholds: Mapping[str, float]) -> dict[str, int]:
        """How often each keyword, of which none was spoken, is detected with these thresholds."""
        # A threshold out of a keyword's reach is as good as any other.
        key = tuple(min(thresholds[word], self._peaks[word] + 1e-6) for word in self.defaults)
        if key not in self._known:
            detector = self._detector(thresholds)
            counts = dict.fromkeys(self.defaults, 0)
            for start in range(0, len(self._loud), _CHUNK):
                for row in self._loud[start : start + _CHUNK].astype(np.float32) / np.float32(256):
                    if found := detector.process(row, 0.0):
                        counts[found.keyword] += 1
            self._known[key] = counts
        return self._known[key]

    def common(self, threshold: float) -> dict[str, float]:
        """`threshold` for every keyword, or its floor where that is higher."""
        return {word: max(threshold, floor) for word, floor in self.floors.items()}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Thresholds that keep to a budget."""

    common: float
    """What was chosen for all keywords at first."""
    thresholds: dict[str, float]
    """What was chosen for each in the end."""
    counts: dict[str, int]
    """False accepts of each in what was heard."""
    supported: bool
    """Whether what was heard shows that the budget is kept: the 95 % upper bound of the rate is within it."""


def choose(evidence: Evidence, budget: float) -> Choice:
    """The lowest thresholds that keep to `budget`.

    Thresholds keep to it if the number of false accepts divided by the hours does not exceed it; and, if any of them is
    below the model file's, only if the upper bound of the rate (:func:`poisson_upper`) does not exceed it, either: a
    quiet quarter of an hour is no reason to listen less carefully than the model file does.

    First a common threshold goes down the grid as long as this holds. Then the keywords' own go down from there in
    turn, a step each, until each has come to a step at which it would not hold, or to its floor, the model file's
    threshold less :data:`MARGIN`.

    Raises
    ------
    ConfigError
        If not even the highest thresholds keep to it.
    """

    def keeps(thresholds: Mapping[str, float]) -> bool:
        n = sum(evidence.false_accepts(thresholds).values())
        lowered = any(thresholds[word] < default for word, default in evidence.defaults.items())
        most = budget * evidence.hours
        return n <= most and (not lowered or poisson_upper(n) <= most)

    grid = evidence.grid
    chosen = evidence.common(grid[-1])
    if not keeps(chosen):
        n = sum(evidence.false_accepts(chosen).values())
        raise ConfigError(
            f"{counted(n, 'false accept')} in {evidence.hours:.2f} h even at a threshold of {grid[-1]:g}; give a "
            f"larger --budget than {budget:g} per hour, fewer --keywords, or a --wake-word"
        )
    common = grid[-1]
    for threshold in reversed(grid):
        if not keeps(evidence.common(threshold)):
            break
        common, chosen = threshold, evidence.common(threshold)
    left = list(chosen)
    while left:
        for word in tuple(left):
            lower = [t for t in grid if evidence.floors[word] <= t < chosen[word]]
            if lower and keeps({**chosen, word: lower[-1]}):
                chosen[word] = lower[-1]
            else:
                left.remove(word)
    counts = evidence.false_accepts(chosen)
    supported = poisson_upper(sum(counts.values())) <= budget * evidence.hours
    return Choice(common=common, thresholds=chosen, counts=counts, supported=supported)
