"""From a sequence of posteriors to detections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kws_edge.config import DetectorConfig
from kws_edge.errors import ConfigError
from kws_edge.labels import UNKNOWN, is_keyword

__all__ = ["Detection", "Detector"]


@dataclass(frozen=True)
class Detection:
    """A keyword that was heard."""

    keyword: str
    score: float
    """Smoothed posterior, in [0, 1]."""
    start_s: float
    """Seconds from the start of the stream to the start of the window that decided: the word lies in it."""
    end_s: float
    """End of that window, the time of the decision."""


class Detector:
    """Smoothing, thresholds, hysteresis and refractory time.

    A keyword is detected when its posterior, averaged over the last `smoothing_ms`, is the largest of all labels and
    reaches its threshold. For `refractory_ms` after that nothing is detected, and averaging starts anew at its end, so
    that nothing heard before counts twice; the same keyword must also have fallen below its release level since.

    Parameters
    ----------
    labels : sequence of str
        Names of the posteriors.
    config : DetectorConfig
        Its `keywords` are active. The posteriors of other words count for ``unknown``, where there is such a label.
    step_s : float
        Time between posteriors.
    clip_s : float
        Length of the window that each of them was computed from.

    Raises
    ------
    ConfigError
        If the configuration names a keyword that is no label, or none is left to detect.
    """

    def __init__(self, labels: Sequence[str], config: DetectorConfig, *, step_s: float, clip_s: float) -> None:
        self.labels, self.config = tuple(labels), config
        for name in (*(config.keywords or ()), *config.thresholds):
            if name not in self.labels or not is_keyword(name):
                words = ", ".join(label for label in self.labels if is_keyword(label))
                raise ConfigError(f"{name!r} is no keyword of this model; its keywords are {words}")
        self.keywords = config.keywords or tuple(label for label in self.labels if is_keyword(label))
        if not self.keywords:
            raise ConfigError(f"none of the labels {', '.join(self.labels)} is a keyword")
        active = np.array([label in self.keywords for label in self.labels])
        words = np.array([is_keyword(label) for label in self.labels])
        self.active = active
        """Which labels are active keywords."""
        self.inactive = np.flatnonzero(words & ~active)
        """Indices of the other words."""
        unknown = [i for i, label in enumerate(self.labels) if label.strip("_") == UNKNOWN]
        self.unknown = unknown[0] if unknown else None
        """Index of ``unknown``, if there is such a label."""
        self.thresholds = np.array([config.threshold_of(label) for label in self.labels], np.float32)
        """Smoothed posterior at which each label is detected."""
        self.releases = self.thresholds * np.float32(1 - config.hysteresis)
        """Posterior below which it may be detected again."""
        self.smoothing_steps = max(1, round(config.smoothing_ms / 1000 / step_s))
        """Posteriors that are averaged."""
        self.refractory_steps = round(config.refractory_ms / 1000 / step_s)
        """Posteriors that are passed over after a detection."""
        self._clip_s = clip_s
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next posteriors are the first of a new stream."""
        self._history = np.zeros((self.smoothing_steps, len(self.labels)), np.float32)
        self._filled = 0
        self._wait = 0
        self._armed = np.ones(len(self.labels), bool)
        self.smoothed = np.zeros(len(self.labels), np.float32)
        """The latest average, shape (len(labels),), float32; zeros while there is none."""

    def process(self, posteriors: np.ndarray, time_s: float) -> Detection | None:
        """Take the posteriors of the window that ends at `time_s`; return what is detected there.

        Parameters
        ----------
        posteriors : numpy.ndarray, shape (len(labels),), float32
        time_s : float
        """
        if len(self.inactive):
            posteriors = posteriors.copy()
            if self.unknown is not None:
                posteriors[self.unknown] += posteriors[self.inactive].sum()
            posteriors[self.inactive] = 0
        self._armed |= posteriors < self.releases
        if self._wait:
            self._wait -= 1
            return None
        self._history[self._filled % self.smoothing_steps] = posteriors
        self._filled += 1
        if self._filled < self.smoothing_steps:
            return None
        np.divide(self._history.sum(axis=0), np.float32(self.smoothing_steps), out=self.smoothed)
        best = int(self.smoothed.argmax())
        if not (self.active[best] and self._armed[best] and self.smoothed[best] >= self.thresholds[best]):
            return None
        self._armed[best] = False
        self._wait = self.refractory_steps
        self._filled = 0
        found = Detection(
            keyword=self.labels[best],
            score=float(self.smoothed[best]),
            start_s=max(0.0, time_s - self._clip_s),
            end_s=time_s,
        )
        self.smoothed = np.zeros_like(self.smoothed)
        return found
