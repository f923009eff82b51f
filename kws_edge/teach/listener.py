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

__all__ = ["BUDGET", "EVERY_S", "HYSTERESIS", "TaughtListener", "least_score", "share"]

BUDGET = 1.0
"""False accepts an hour of speech that each taught word may have."""
EVERY_S = 0.2
"""Time from one embedding to the next. The encoder learnt that a word may lie half of this earlier or later."""
HYSTERESIS = 1.0
"""A word must fall this far below its threshold before it is heard again, in deviations of other speech."""
_ROUNDING = 1e-6
_NEVER = 1e-6
"""How near a threshold is to 0 or 1 at most."""


def share(score: float, least: float) -> float:
    """A score as detections have it: in (0, 1), and 0.5 at `least`, the encoder's threshold."""
    return 1 / (1 + math.exp(min(least - score, 700.0)))


def least_score(threshold: float, least: float) -> float:
    """The score of which :func:`share` makes `threshold`."""
    threshold = min(max(threshold, _NEVER), 1 - _NEVER)
    return least + math.log(threshold / (1 - threshold))


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
    thresholds : dict
        Threshold of each word, as of :class:`kws_edge.teach.word.TaughtWord`.
    shares : numpy.ndarray, shape (len(names),), float32
        The latest score of each word, as detections have it; 0 of a word that is far from being heard.
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
        self._encoder, self._clip_s, self._step_s = encoder, clip_s, step_s
        self.interpreter = encoder.interpreter
        self.names = tuple(words)
        found = words.values()
        self.thresholds = {word.name: word.threshold for word in found}
        self._least = encoder.threshold(per_hour)
        self._heard = np.array([least_score(word.threshold, self._least) for word in found], np.float32)
        rivals, deviations = encoder.rivals, np.array([word.others[1] for word in found], np.float32)
        self._same = [rivals.same(word.name, word.prototype) for word in found]
        self._prototypes = np.stack([word.prototype for word in found]).T / deviations
        self._means = np.array([word.others[0] for word in found], np.float32) / deviations
        self._deviations = deviations
        # Below these, no penalty is small enough for a word to be heard at its threshold, or at the encoder's.
        self._floors = np.minimum(self._heard, self._least) - HYSTERESIS + LEAST_PENALTY / deviations + self._means
        self._every = max(1, round(EVERY_S / step_s))
        self._refractory = round(refractory_s / step_s)
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self._wait = 0
        self._released = np.ones(len(self.names), bool)
        self.shares = np.zeros(len(self.names), np.float32)

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
        # The time tells which inferences count, so that a listener may go on where another one ends.
        due = int(time_s / self._step_s + _ROUNDING) % self._every == 0
        scores = self._scores() if due else None
        if own:
            self._wait = self._refractory
            return own
        if self._wait:
            self._wait -= 1
            return None
        if scores is None:
            if due:
                self._released.fill(True)
            return None
        best = self._best(scores)
        if best is None or (detector.wake is not None and not detector.armed):
            return None
        detector.disarm()
        self._released[best] = False
        self._wait = self._refractory
        heard = share(float(scores[best]), self._least)
        return Detection(self.names[best], heard, start_s=max(0.0, time_s - self._clip_s), end_s=time_s)

    @property
    def rests(self) -> bool:
        """Whether this is the refractory time."""
        return self._wait > 0

    def _scores(self) -> NDArray[np.float32] | None:
        """The score of each word now, or less than any score of one that is far from being heard; None if all are."""
        embedding, rivals = self._encoder.embedding(), self._encoder.rivals
        self.shares.fill(0)
        cosines: NDArray[np.float32] = embedding @ self._prototypes
        likely = (cosines >= self._floors).nonzero()[0]
        if not len(likely):
            return None
        scores = np.full(len(self.names), -np.inf, np.float32)
        to_rivals = rivals.cosines(embedding)
        for i in likely:
            penalty = rivals.penalty_at(to_rivals, self._same[i])
            scores[i] = cosines[i] - self._means[i] - penalty / self._deviations[i]
            self.shares[i] = share(float(scores[i]), self._least)
        return scores

    def _best(self, scores: NDArray[np.float32]) -> int | None:
        """The word that is heard now, or None."""
        self._released |= scores < self._heard - HYSTERESIS
        best = int((scores - self._heard).argmax())
        return best if scores[best] >= self._heard[best] and self._released[best] else None
