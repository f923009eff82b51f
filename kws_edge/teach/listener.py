"""Hears taught words in a stream, from the inferences of the model that listens anyway."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from kws_edge.detection.detector import Detection, Detector
from kws_edge.teach.encoder import LEAST_PENALTY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from kws_edge.teach.encoder import Encoder
    from kws_edge.teach.words import TaughtWord

__all__ = ["BUDGET", "SMOOTHING_S", "TaughtListener"]

BUDGET = 1.0
"""False accepts an hour of speech that each taught word may have."""
SMOOTHING_S = 0.2
"""Time over which scores are averaged."""
_NEVER = -100.0
"""Score of what cannot be a taught word."""
_HYSTERESIS = 1.0
"""A word must fall this far below its threshold before it is heard again, in deviations of other speech."""


class TaughtListener:
    """Decides after each inference whether a taught word was said.

    Parameters
    ----------
    encoder : kws_edge.teach.encoder.Encoder
    words : mapping of str to TaughtWord
        At least one.
    step_s : float
        Seconds from one inference to the next.
    clip_s : float
        Length of the window of one inference, in seconds.
    refractory_s : float
        Seconds after a detection in which no taught word is heard.
    per_hour : float
        Allowed false accepts an hour of speech, of each word.

    Attributes
    ----------
    names : tuple of str
    interpreter : kws_edge.teach.encoder.TappedInterpreter
        Must make the inferences of the stream.
    """

    def __init__(
        self,
        encoder: Encoder,
        words: Mapping[str, TaughtWord],
        *,
        step_s: float,
        clip_s: float,
        refractory_s: float,
        per_hour: float = BUDGET,
    ) -> None:
        self._encoder, self._clip_s = encoder, clip_s
        self.interpreter = encoder.interpreter
        self.names = tuple(words)
        found = words.values()
        self._deviations = np.array([word.others[1] for word in found], np.float32)
        self._prototypes = np.stack([word.prototype for word in found]).T / self._deviations
        self._means = np.array([word.others[0] for word in found], np.float32) / self._deviations
        rivals = encoder.rivals
        self._same = [rivals.same(word.name, word.prototype) for word in found]
        self._least = LEAST_PENALTY / self._deviations
        self._never = np.full(len(self.names), _NEVER, np.float32)
        self.threshold = encoder.threshold(per_hour)
        """Score that counts as heard, in deviations of the scores of speech."""
        self._steps = max(1, round(SMOOTHING_S / step_s))
        self._refractory = round(refractory_s / step_s)
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self._latest = np.full((self._steps, len(self.names)), _NEVER, np.float32)
        self._next = self._wait = 0
        self._released = np.ones(len(self.names), bool)

    def hear(self, own: Detection | None, time_s: float, detector: Detector) -> Detection | None:
        """Take the latest inference of :attr:`interpreter`; return the detection, if there is one.

        Parameters
        ----------
        own : Detection or None
            What the model's own detector found. It comes first, and its refractory time holds for taught words, too.
        time_s : float
            Seconds from the start of the stream to the end of the window.
        detector : kws_edge.Detector
            With a wake word, taught words are commands of this detector.
        """
        self._latest[self._next % self._steps] = self._scores()
        self._next += 1
        mean = self._latest.mean(axis=0)
        self._released |= mean < self.threshold - _HYSTERESIS
        if own:
            self._wait = self._refractory
            return own
        if self._wait:
            self._wait -= 1
            return None
        best = int(mean.argmax())
        if not (self._released[best] and mean[best] >= self.threshold):
            return None
        if detector.wake is not None:
            if not detector.armed:
                return None
            detector.disarm()
        self._released[best] = False
        self._wait = self._refractory
        score = 1 / (1 + math.exp(self.threshold - float(mean[best])))
        return Detection(self.names[best], score, start_s=max(0.0, time_s - self._clip_s), end_s=time_s)

    def _scores(self) -> NDArray[np.float32]:
        """The score of each word in the latest inference. Where none can count, the rivals are not asked."""
        embedding = self._encoder.embedding()
        scores: NDArray[np.float32] = embedding @ self._prototypes - self._means
        likely = np.flatnonzero(scores - self._least >= self.threshold - _HYSTERESIS)
        found = self._never.copy() if len(likely) else self._never
        for i in likely:
            penalty = self._encoder.rivals.penalty(embedding, self._same[i])
            found[i] = scores[i] - penalty / self._deviations[i]
        return found
