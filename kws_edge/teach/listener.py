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
    from kws_edge.teach.word import TaughtWord

__all__ = ["BUDGET", "EVERY_S", "HYSTERESIS", "TaughtListener"]

BUDGET = 1.0
"""False accepts an hour of speech that each taught word may have."""
EVERY_S = 0.2
"""Time from one embedding to the next. The encoder learnt that a word may lie half of this earlier or later."""
HYSTERESIS = 1.0
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
        self.threshold = encoder.threshold(per_hour)
        """Score that counts as heard, in deviations of the scores of speech."""
        rivals, deviations = encoder.rivals, np.array([word.others[1] for word in found], np.float32)
        self._same = [rivals.same(word.name, word.prototype) for word in found]
        self._prototypes = np.stack([word.prototype for word in found]).T / deviations
        self._means = np.array([word.others[0] for word in found], np.float32) / deviations
        self._deviations = deviations
        # Below these, no penalty is small enough for a word to be heard.
        self._floors = self.threshold - HYSTERESIS + LEAST_PENALTY / deviations + self._means
        self._every = max(1, round(EVERY_S / step_s))
        self._refractory = round(refractory_s / step_s)
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self._step = self._wait = 0
        self._released = np.ones(len(self.names), bool)

    def hear(self, own: Detection | None, time_s: float, detector: Detector) -> Detection | None:
        """Take the latest inference of `interpreter`; return the detection, if there is one.

        Parameters
        ----------
        own : Detection or None
            What the model's own detector found. It comes first, and its refractory time holds for taught words, too.
        time_s : float
            Seconds from the start of the stream to the end of the window.
        detector : kws_edge.Detector
            With a wake word, taught words are commands of this detector.
        """
        self._step = (self._step + 1) % self._every
        if own:
            self._wait = self._refractory
            return own
        if self._wait:
            self._wait -= 1
            return None
        if self._step:
            return None
        best, score = self._best()
        if best is None or (detector.wake is not None and not detector.armed):
            return None
        detector.disarm()
        self._released[best] = False
        self._wait = self._refractory
        share = 1 / (1 + math.exp(self.threshold - score))
        return Detection(self.names[best], share, start_s=max(0.0, time_s - self._clip_s), end_s=time_s)

    def _best(self) -> tuple[int | None, float]:
        """The word that is heard now and its score; or None."""
        embedding = self._encoder.embedding()
        cosines: NDArray[np.float32] = embedding @ self._prototypes
        likely = cosines >= self._floors
        if not likely.any():
            self._released[:] = True
            return None, 0.0
        scores = np.full(len(self.names), -np.inf)
        for i in np.flatnonzero(likely):
            penalty = self._encoder.rivals.penalty(embedding, self._same[i])
            scores[i] = cosines[i] - self._means[i] - penalty / self._deviations[i]
        self._released |= scores < self.threshold - HYSTERESIS
        best = int(scores.argmax())
        heard = scores[best] >= self.threshold and self._released[best]
        return (best if heard else None), float(scores[best])
