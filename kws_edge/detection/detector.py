"""Detections from a sequence of posteriors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kws_edge.config import DetectorConfig
from kws_edge.errors import ConfigError
from kws_edge.labels import UNKNOWN, check_labels, is_keyword, is_unknown
from kws_edge.ranges import number

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Detection", "Detector"]


_TIME_S = number(0.001, 60)
_ROUNDING = 1e-3  # more than the error of a mean of posteriors
_PAUSE_S = 0.2  # gap between the average and the speech before it, because a word enters the windows gradually


@dataclass(frozen=True)
class Detection:
    """A keyword that was heard.

    Examples
    --------
    >>> from kws_edge import Detection
    >>> detection = Detection(keyword="stop", score=0.84, start_s=2.5, end_s=3.5)
    >>> f"{detection.keyword} at {detection.end_s} s"
    'stop at 3.5 s'
    """

    keyword: str
    score: float
    """Smoothed posterior, in [0, 1]."""
    start_s: float
    """Seconds from the start of the stream to the start of the window that decided. The word lies in this window."""
    end_s: float
    """End of that window, which is the time of the decision."""
    wake: bool = False
    """Whether the keyword is the wake word."""


class Detector:
    """Smoothing, thresholds, hysteresis and refractory time.

    A keyword is detected when its posterior, averaged over the last `smoothing_ms`, is the largest of all labels and
    reaches its threshold. In the next `refractory_ms` nothing is detected. Averaging starts anew after this time, so
    that no posterior counts twice. Before the same keyword is detected again, its average must have fallen below its
    release level.

    After other speech, a keyword must reach its threshold plus `speech_margin`. Parts of running speech sometimes sound
    like a keyword, and people rarely say a command in one breath with other words. A keyword follows other speech if
    the average of ``unknown`` was two thirds or more. This average runs over `smoothing_ms`, and ends 200 ms before the
    posteriors that are averaged for the keyword. Other keywords do not count as such speech.

    With a wake word, the other keywords are commands. A command is detected only within `armed_s` of the wake word's
    detection, from decision to decision. Its detection ends this window, so each wake word allows one command. The wake
    word itself is detected at any time by the rules above, and opens the window anew.

    A command that reaches its threshold outside the window leaves no trace: no refractory time and no hysteresis. Its
    posterior is not added to ``unknown``, so it blocks the wake word only while it is the likelier of the two. Commands
    from about 0.2 s after the end of the wake word are heard whole, in spite of the refractory time. One-second windows
    that end after this time still contain them.

    A network with state gives independent posteriors: that of ``unknown`` tells of any speech, also of a keyword. So
    ``unknown`` and ``silence`` do not compete with keywords, and words that are not active do so each for itself.

    Parameters
    ----------
    labels : sequence of str
        Names of the posteriors.
    config : DetectorConfig
        Its `keywords` are active. If there is a label ``unknown``, the posteriors of other words are added to it.
    step_s : float
        Seconds from one inference to the next.
    clip_s : float
        Length of the window of one inference, in seconds.
    independent : bool
        Whether the posteriors are independent, as a network with state gives them, and not shares of one whole.

    Raises
    ------
    ConfigError
        If the labels cannot name outputs. If the configuration names a keyword that is not a label, or leaves no
        keyword to detect. If `armed_s` is too short for a command after the refractory time. If there is a
        `speech_margin` but nothing that tells of other speech. If a time is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from kws_edge import Detector, DetectorConfig
    >>> config = DetectorConfig(threshold=0.6, smoothing_ms=200)
    >>> detector = Detector(["silence", "unknown", "yes"], config, step_s=0.1, clip_s=1.0)
    >>> detector.process(np.array([0.1, 0.5, 0.4], np.float32), time_s=2.0)
    >>> detector.process(np.array([0.0, 0.1, 0.9], np.float32), time_s=2.1).keyword
    'yes'
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
        self.labels, self.config = check_labels("labels", labels), config
        step_s, clip_s = _TIME_S.check("step_s", step_s), _TIME_S.check("clip_s", clip_s)
        wake_word = () if config.wake_word is None else (config.wake_word,)
        for name in (*(config.keywords or ()), *config.thresholds, *wake_word):
            if name not in self.labels or not is_keyword(name):
                words = ", ".join(label for label in self.labels if is_keyword(label))
                raise ConfigError(f"{name!r} is no keyword of this model; its keywords are {words}")
        self.keywords = config.keywords or tuple(label for label in self.labels if is_keyword(label))
        if not self.keywords:
            raise ConfigError(f"none of the labels {', '.join(self.labels)} is a keyword")
        if set(self.keywords) == set(wake_word):
            raise ConfigError(f"no keyword is left to follow the wake word {config.wake_word!r}; name others")
        self.keywords = tuple(dict.fromkeys((*wake_word, *self.keywords)))
        self.active = tuple(label in self.keywords for label in self.labels)
        """Which labels are active keywords."""
        inactive = [is_keyword(label) and label not in self.keywords for label in self.labels]
        self.inactive = np.flatnonzero([] if independent else inactive)
        """Indices of the words that count as unknown."""
        # What keeps a label from being the likeliest.
        handicaps = [0 if is_keyword(label) or not independent else -1 for label in self.labels]
        self._handicaps = np.array(handicaps, np.float32) if any(handicaps) else None
        unknown = [i for i, label in enumerate(self.labels) if is_unknown(label)]
        self.unknown = unknown[0] if unknown else None
        """Index of ``unknown``, if there is such a label."""
        self.thresholds = np.array([config.threshold_of(label) for label in self.labels], np.float32)
        """Smoothed posterior at which each label is detected."""
        self.thresholds_in_speech = self.thresholds + np.float32(config.speech_margin)
        """Smoothed posterior at which each label is detected after other speech."""
        if config.speech_margin and (independent or self.unknown is None):
            why = "hears speech in keywords, too" if independent else f"has no label {UNKNOWN!r} to tell by"
            raise ConfigError(f"speech_margin={config.speech_margin:g}: this model {why}; it can only be 0")
        self.releases = self.thresholds * np.float32(1 - config.hysteresis)
        """Smoothed posterior below which each label may be detected again."""
        self.smoothing_steps = max(1, round(config.smoothing_ms / 1000 / step_s))
        """Number of inferences that are averaged."""
        self.spoken_steps = 2 * self.smoothing_steps + round(_PAUSE_S / step_s)
        """Number of latest inferences of which the first `smoothing_steps` tell whether a keyword follows speech."""
        # Below these no average reaches its threshold.
        self._floors = np.where(self.active, self.thresholds - np.float32(_ROUNDING), np.float32(np.inf))
        self._divisor = np.array(self.smoothing_steps, np.float32)
        self.refractory_steps = round(config.refractory_ms / 1000 / step_s)
        """Inferences that are ignored after a detection."""
        self.wake = self.labels.index(config.wake_word) if wake_word else None
        """Index of the wake word, if there is one."""
        self.armed_steps = round(config.armed_s / step_s)
        """Inferences after the wake word's detection that may detect a command."""
        if wake_word and self.armed_steps < self.refractory_steps + self.smoothing_steps:
            raise ConfigError(
                f"armed_s={config.armed_s:g} is over before a command can be heard; refractory_ms and smoothing_ms "
                f"take {(self.refractory_steps + self.smoothing_steps) * step_s:g} s of it"
            )
        self._clip_s = clip_s
        self.reset()

    def reset(self) -> None:
        """Forget everything. The next posteriors are the first ones of a new stream."""
        self._history = np.zeros((self.smoothing_steps, len(self.labels)), np.float32)
        self._filled = 0
        self._spoken = np.zeros(self.spoken_steps, np.float32)  # latest ones of unknown, the oldest next
        self._next = 0
        self._calm = self.smoothing_steps  # latest posteriors that all lie below the floors; at first there are none
        self._wait = 0
        self._armed_left = 0
        self._released = np.ones(len(self.labels), bool)
        self._all_released = True

    @property
    def smoothed(self) -> NDArray[np.float32]:
        """The latest average, shape (len(labels),), float32. It is zero while there is no average."""
        if self._filled < self.smoothing_steps:
            return np.zeros(len(self.labels), np.float32)
        average: NDArray[np.float32] = np.add.reduce(self._history, axis=0)
        average /= self._divisor
        return average

    @property
    def armed(self) -> bool:
        """Whether the wake word's window is open."""
        return self._armed_left > 0

    def disarm(self) -> None:
        """Close the wake word's window, because a command was heard by other means."""
        self._armed_left = 0

    @property
    def in_speech(self) -> bool:
        """Whether other speech precedes the averaged posteriors. If so, `thresholds_in_speech` hold."""
        before = np.roll(self._spoken, -(self._next % len(self._spoken)))[: self.smoothing_steps]
        return bool(3 * before.sum() >= 2 * self.smoothing_steps)

    def process(self, posteriors: NDArray[np.float32], time_s: float) -> Detection | None:
        """Take the posteriors of the window that ends at `time_s`; return the detection, if there is one.

        Parameters
        ----------
        posteriors : numpy.ndarray, shape (len(labels),), float32
        time_s : float
            Seconds from the start of the stream.
        """
        if len(self.inactive):
            posteriors = posteriors.copy()
            if self.unknown is not None:
                posteriors[self.unknown] += posteriors[self.inactive].sum()
            posteriors[self.inactive] = 0
        if self.unknown is not None:
            self._spoken[self._next % len(self._spoken)] = posteriors[self.unknown]
            self._next += 1
        if not self._all_released:
            self._released |= posteriors < self.releases
            self._all_released = bool(self._released.all())
        self._armed_left = max(0, self._armed_left - 1)
        self._calm = 0
        if self._wait:
            self._wait -= 1
            return None
        self._history[self._filled % self.smoothing_steps] = posteriors
        self._filled += 1
        if self._filled < self.smoothing_steps:
            return None
        smoothed = np.add.reduce(self._history, axis=0)
        smoothed /= self._divisor
        best = int((smoothed if self._handicaps is None else smoothed + self._handicaps).argmax())
        if not (self.active[best] and self._released[best] and smoothed[best] >= self.thresholds[best]):
            return None
        if smoothed[best] < self.thresholds_in_speech[best] and self.in_speech:
            return None
        wake = best == self.wake
        if not (wake or self.wake is None or self.armed):
            return None
        self._armed_left = self.armed_steps + 1 if wake else 0
        self._released[best] = self._all_released = False
        self._wait = self.refractory_steps
        self._filled = 0
        return Detection(
            keyword=self.labels[best],
            score=float(smoothed[best]),
            start_s=max(0.0, time_s - self._clip_s),
            end_s=time_s,
            wake=wake,
        )

    def process_all(
        self, rows: NDArray[np.float32] | Sequence[NDArray[np.float32]], time_s: float
    ) -> list[Detection | None]:
        """Take posteriors that become known at the same time; return the detection of each.

        The results are those of :meth:`process` for each row. Mostly nothing is near its threshold, and then several
        rows cost about as much as one.

        Parameters
        ----------
        rows : numpy.ndarray, shape (n, len(labels)), float32
            In the order of time.
        time_s : float
            Seconds from the start of the stream.
        """
        n = len(rows)
        if n == 1:
            return [self.process(rows[0], time_s)]
        if len(self.inactive):
            return [self.process(row, time_s) for row in rows]
        assert isinstance(rows, np.ndarray)
        rest = self._calm >= self.smoothing_steps - 1 and self._all_released and not self._wait
        calm = 0 if np.count_nonzero(rows >= self._floors) else self._calm + n
        if rest and calm:  # no average reaches its threshold
            self._armed_left = max(0, self._armed_left - n)
            self._filled += n
            _put(self._history, self._filled, rows)
            if self.unknown is not None:
                self._next += n
                _put(self._spoken, self._next, rows[:, self.unknown])
            found: list[Detection | None] = [None] * n
        else:
            found = [self.process(row, time_s) for row in rows]
        self._calm = calm
        return found


def _put(ring: NDArray[np.float32], end: int, rows: NDArray[np.float32]) -> None:
    """Write the latest rows into a ring in which `end` rows were then written."""
    size = len(ring)
    rows = rows[-size:]
    end %= size
    start = end - len(rows)
    if start >= 0:
        ring[start:end] = rows
    else:
        ring[start:] = rows[:-start]
        ring[:end] = rows[-start:]
