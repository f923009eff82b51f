"""What taught words score in a place where nobody says them, and thresholds from that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kws_edge.detection.calibration import MARGIN, Accepts
from kws_edge.teach.listener import HYSTERESIS, least_score, share
from kws_edge.teach.word import PROMISED

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Together"]

_STEP = 0.01


class Together:
    """The evidence of a place for the model's own words and for taught ones, which share a budget.

    It answers as :class:`kws_edge.detection.calibration.Evidence` does.

    Parameters
    ----------
    model : Evidence
        Of the model's own words.
    taught : sequence of str
        The taught words, in the order of scores.
    step_s, refractory_s : float
        Seconds from one score to the next, and after a detection without another one.

    Examples
    --------
    >>> import numpy as np
    >>> from kws_edge import DetectorConfig
    >>> from kws_edge.detection.calibration import Evidence
    >>> from kws_edge.teach.evidence import Together
    >>> own = Evidence(["unknown", "yes"], DetectorConfig(), step_s=0.1, clip_s=1.0)
    >>> both = Together(own, ["lamp"], step_s=0.1, refractory_s=1.0)
    >>> for score in (0.0, 0.6, 0.7, 0.0):
    ...     both.add(np.array([1.0, 0.0, score], np.float32))
    >>> both.close()
    >>> both.false_accepts({"yes": 0.5, "lamp": 0.5}), both.false_accepts({"yes": 0.5, "lamp": 0.8})
    ({'yes': 0, 'lamp': 1}, {'yes': 0, 'lamp': 0})
    """

    def __init__(self, model: Accepts, taught: Sequence[str], *, step_s: float, refractory_s: float) -> None:
        self._model, self._taught, self.own = model, tuple(taught), model.own
        self._rests = round(refractory_s / step_s)
        self._n = 0
        self._loud: list[tuple[int, NDArray[np.float32]]] = []
        self.defaults = {**model.defaults, **dict.fromkeys(taught, PROMISED)}
        """The threshold of each word before any calibration."""
        self.floors = {**model.floors, **dict.fromkeys(taught, round(PROMISED - MARGIN, 6))}
        """The lowest threshold that each word may get."""

    def add(self, scores: NDArray[np.float32]) -> None:
        """Keep the posteriors of an inference, then the score of each taught word."""
        n = len(scores) - len(self._taught)
        self._model.add(scores[:n])
        if scores[n:].any():
            self._loud.append((self._n, scores[n:].copy()))
        self._n += 1

    @property
    def hours(self) -> float:
        """Length of the audio heard, in hours."""
        return self._model.hours

    @property
    def grid(self) -> list[float]:
        """The thresholds to try, ascending."""
        lowest, own = min(self.floors.values()), self._model.grid
        below = {round(lowest + i * _STEP, 6) for i in range(round((own[0] - lowest) / _STEP))}
        return sorted({*below, *own, PROMISED})

    def close(self) -> None:
        """End the adding. Call this before any question below."""
        self._model.close()

    def false_accepts(self, thresholds: Mapping[str, float]) -> dict[str, int]:
        """Number of detections of each word with these thresholds."""
        own = self._model.false_accepts(self.own(thresholds))
        return {**own, **self._heard(np.array([thresholds[word] for word in self._taught]))}

    def _heard(self, thresholds: NDArray[np.float64]) -> dict[str, int]:
        counts = np.zeros(len(thresholds), int)
        releases = np.array([share(least_score(one, 0.0) - HYSTERESIS, 0.0) for one in thresholds])
        released, last, free = np.ones(len(thresholds), bool), 0, 0
        for at, scores in self._loud:
            if at < free:
                continue
            released |= (at > max(last + 1, free)) | (scores < releases)
            last = at
            best = int((scores - thresholds).argmax())
            if scores[best] >= thresholds[best] and released[best]:
                counts[best] += 1
                released[best], free = False, at + 1 + self._rests
        return dict(zip(self._taught, counts.tolist(), strict=True))

    def common(self, threshold: float) -> dict[str, float]:
        """`threshold` for every word, or the word's floor if that is higher."""
        return {word: max(threshold, floor) for word, floor in self.floors.items()}
