"""Thresholds for a place, from the posteriors of its sound while nobody gives a command."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from kws_edge.config import DetectorConfig
from kws_edge.detection.detector import Detector
from kws_edge.errors import ConfigError
from kws_edge.text import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "CONFIDENCE",
    "LEAST_MINUTES",
    "MARGIN",
    "TOO_SHORT",
    "Accepts",
    "Choice",
    "Evidence",
    "check_plausible",
    "choose",
    "poisson_interval",
    "poisson_upper",
    "wilson",
]

CONFIDENCE = 0.95
MARGIN = 0.15
"""Largest amount by which a calibrated threshold may lie below the model file's."""
LEAST_MINUTES = 3.0
"""A false accept each minute shows itself in this time with a probability of 95 %: 1 - e^-3."""
TOO_SHORT = (
    f"{LEAST_MINUTES:g} min are the least from which thresholds are chosen, as less does not show even a false accept "
    "each minute; hear more"
)
_MOST_PER_HOUR = 60.0  # detections; the smaller of the shipped models gives 16 on read speech
_MOST_BUDGETS = 10  # a user who allows many expects many
_STEP = 0.01
_HIGHEST = 0.99
_CHUNK = 4096


def _cdf(k: int, mean: float) -> float:
    """Probability of at most `k` events if `mean` are expected (Poisson)."""
    i = np.arange(1, k + 1)
    return math.exp(-mean) + float(np.exp(i * math.log(mean) - mean - np.cumsum(np.log(i))).sum())


def poisson_upper(k: int, confidence: float = CONFIDENCE) -> float:
    """One-sided upper bound of a Poisson mean of which `k` events were observed: ``P(at most k) = 1 - confidence``.

    The bound is found by bisection of the distribution function, which falls as the mean rises. Without events it is
    ``-ln(1 - confidence)``, 3.0 at 95 %.

    Parameters
    ----------
    k : int
        Events observed.
    confidence : float
        Probability that the bound is above the mean, in (0, 1).
    """
    low, high = 0.0, k + 10 + 10 * math.sqrt(k + 1)
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _cdf(k, middle) > 1 - confidence else (low, middle)
    return high


def poisson_interval(k: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact two-sided interval of a Poisson mean of which `k` events were observed (Garwood, 1936).

    Parameters
    ----------
    k : int
        Events observed.
    confidence : float
        Probability that the interval holds the mean, in (0, 1).
    """
    tail = (1 - confidence) / 2
    # P(at least k) = tail at the lower end: P(at most k - 1) = 1 - tail.
    return (poisson_upper(k - 1, tail) if k else 0.0), poisson_upper(k, 1 - tail)


def wilson(successes: float, n: float, z: float = 1.959964) -> tuple[float, float]:
    """Score interval of a proportion, `successes` of `n`, at 95 % by default (Wilson, 1927).

    Parameters
    ----------
    successes : float
    n : float
        Number of trials.
    z : float
        Quantile of the normal distribution for the confidence.
    """
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
    return max(0.0, low), min(1.0, high)  # rounding may lead out of the range


class Evidence:
    """Posteriors of a place in which nobody gave a command, and the false accepts that a detector makes of them.

    Each posterior is kept as one byte, in steps of 1/256, exactly as an INT8 softmax gives it. An hour of 12 labels
    takes 0.4 MB. Independent posteriors are kept as two bytes, in steps of 1/32768.

    Parameters
    ----------
    labels : sequence of str
    config : DetectorConfig
        The model file's settings, with any changes except those of thresholds.
    step_s, clip_s, independent
        As for :class:`kws_edge.Detector`.
    """

    def __init__(
        self,
        labels: Sequence[str],
        config: DetectorConfig,
        *,
        step_s: float,
        clip_s: float,
        independent: bool = False,
    ) -> None:
        self.labels, self.config = tuple(labels), config
        self._step_s = step_s
        self._answers: dict[str, Any] = {"step_s": step_s, "clip_s": clip_s, "independent": independent}
        self._dtype, self._unit = np.dtype(np.uint16 if independent else np.uint8), 2**15 if independent else 2**8
        self._most = min(self._unit, np.iinfo(self._dtype).max)
        self._rows = bytearray()
        detector = self._detector(config.thresholds)
        self.defaults = {word: config.threshold_of(word) for word in detector.keywords}
        """The model file's threshold of each active keyword."""
        self.floors = {word: max(_STEP, round(default - MARGIN, 6)) for word, default in self.defaults.items()}
        """The lowest threshold that each keyword may get."""
        self._known: dict[tuple[float, ...], dict[str, int]] = {}
        self._loud = np.empty((0, len(self.labels)), self._dtype)
        self._peaks: dict[str, float] = {}

    def _detector(self, thresholds: Mapping[str, float]) -> Detector:
        return Detector(self.labels, dataclasses.replace(self.config, thresholds=dict(thresholds)), **self._answers)

    def add(self, posteriors: NDArray[np.float32]) -> None:
        """Keep the posteriors of one inference, shape (len(labels),), floating, in [0, 1]."""
        self._rows += np.clip(np.rint(posteriors * self._unit), 0, self._most).astype(self._dtype).tobytes()

    @property
    def hours(self) -> float:
        """Length of the audio heard, in hours."""
        return len(self._rows) // self._dtype.itemsize // len(self.labels) * self._step_s / 3600

    @property
    def grid(self) -> list[float]:
        """The thresholds to try, ascending: all hundredths, and the model file's own."""
        lowest = min(self.floors.values())
        steps = [round(lowest + i * _STEP, 6) for i in range(int((_HIGHEST - lowest) / _STEP + 1.5))]
        return sorted({*steps, *self.defaults.values()})

    def close(self) -> None:
        """End the adding. Call this before any question below.

        From here on, only some inferences are examined: those near a posterior of an active keyword above the lowest
        release level. Between them the detector comes to rest and stays there.
        """
        rows = np.frombuffer(self._rows, self._dtype).reshape(-1, len(self.labels))
        detector = self._detector(self.floors)
        lowest = np.where(detector.active, np.floor(detector.releases * self._unit), self._unit + 1)
        loud = np.any(rows >= lowest, axis=1)
        averaged = detector.smoothing_steps
        before = detector.spoken_steps if self.config.speech_margin else averaged
        after = averaged + detector.refractory_steps + (detector.armed_steps if detector.wake is not None else 0) + 2
        near = np.convolve(loud, np.ones(before + after + 1))[before : before + len(loud)] > 0 if len(loud) else loud
        self._loud = rows[near]
        for word in self.defaults:
            sums = np.cumsum([0, *self._loud[:, self.labels.index(word)]])
            self._peaks[word] = (sums[averaged:] - sums[:-averaged]).max(initial=0) / averaged / self._unit
        self._known.clear()

    def false_accepts(self, thresholds: Mapping[str, float]) -> dict[str, int]:
        """Number of detections of each keyword with these thresholds. All of them are false accepts."""
        # All thresholds that a keyword never reaches are equivalent.
        key = tuple(min(thresholds[word], self._peaks[word] + 1e-6) for word in self.defaults)
        if key not in self._known:
            detector = self._detector(thresholds)
            counts = dict.fromkeys(self.defaults, 0)
            for start in range(0, len(self._loud), _CHUNK):
                for row in self._loud[start : start + _CHUNK].astype(np.float32) / np.float32(self._unit):
                    if found := detector.process(row, 0.0):
                        counts[found.keyword] += 1
            self._known[key] = counts
        return self._known[key]

    def own(self, thresholds: Mapping[str, float]) -> dict[str, float]:
        """Those of the thresholds that are of the model's own words."""
        return {word: value for word, value in thresholds.items() if word in self.labels}

    def common(self, threshold: float) -> dict[str, float]:
        """`threshold` for every keyword, or the keyword's floor if that is higher."""
        return {word: max(threshold, floor) for word, floor in self.floors.items()}


class Accepts(Protocol):
    """What thresholds are chosen from. :class:`Evidence` says what each member is."""

    @property
    def hours(self) -> float: ...

    @property
    def grid(self) -> list[float]: ...

    defaults: dict[str, float]
    floors: dict[str, float]

    def false_accepts(self, thresholds: Mapping[str, float]) -> dict[str, int]: ...

    def common(self, threshold: float) -> dict[str, float]: ...

    def own(self, thresholds: Mapping[str, float]) -> dict[str, float]: ...

    def add(self, posteriors: NDArray[np.float32]) -> None: ...

    def close(self) -> None: ...


def check_plausible(evidence: Accepts, budget: float) -> None:
    """Refuse evidence that would spoil the thresholds instead of fitting them to a place.

    Parameters
    ----------
    evidence : Evidence
        Closed, see :meth:`Evidence.close`.
    budget : float
        Allowed false accepts per hour, of all keywords together.

    Raises
    ------
    ConfigError
        If it is too short, or seems full of commands.
    """
    minutes = 60 * evidence.hours
    if minutes < LEAST_MINUTES:
        raise ConfigError(f"{minutes:.2g} min were heard: {TOO_SHORT}")
    counts = evidence.false_accepts(evidence.defaults)
    n = sum(counts.values())
    most = max(_MOST_PER_HOUR, _MOST_BUDGETS * budget)
    if poisson_interval(n)[0] > most * evidence.hours:
        words = ", ".join(f"{word} {count}" for word, count in counts.items() if count)
        raise ConfigError(
            f"{n} keywords in {minutes:.1f} min ({words}) sound like commands, and against those nothing can be "
            "calibrated; let the device hear the place without commands"
        )


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Chosen thresholds that keep to a budget."""

    common: float
    """Threshold that was first chosen for all keywords together."""
    thresholds: dict[str, float]
    """Threshold that was finally chosen for each keyword."""
    counts: dict[str, int]
    """False accepts of each keyword in the audio heard."""
    supported: bool
    """Whether the audio heard proves that the budget is kept: the 95 % upper bound of the rate is within it."""


def choose(evidence: Accepts, budget: float) -> Choice:
    """Choose the lowest thresholds that keep to `budget`.

    Thresholds keep to the budget if the number of false accepts divided by the hours does not exceed it. If any
    threshold is below the model file's, the upper bound of the rate (:func:`poisson_upper`) must not exceed the budget,
    either. Otherwise a quiet quarter of an hour would make the detector less careful than the model file's.

    First, a common threshold goes down the grid as long as the budget is kept. Then the keywords' own thresholds go
    down in turn, one step each. A keyword stops before a step that would break the budget, or at its floor. This floor
    is the model file's threshold less :data:`MARGIN`.

    Parameters
    ----------
    evidence : Evidence
        Closed, see :meth:`Evidence.close`.
    budget : float
        Allowed false accepts per hour, of all keywords together.

    Raises
    ------
    ConfigError
        If not even the highest thresholds keep to the budget.
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
