"""Cut single words out of live audio."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kws_edge.teach.takes import FRAME_MS, frame_levels

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Recorder"]

_LEAST_DB, _ABOVE_DB = -58.0, 9.0
"""Sound is louder than the first, in dB of full scale, and than the quiet before it by the second."""
_BEGINS, _ENDS = 3, 24
"""Frames of sound that begin a word, and of quiet that end it."""
_BEFORE_S = 0.4
_LONGEST_S, _PATIENCE_S = 3.0, 8.0
_LEARNT = 10
"""Frames from which the level of quiet is known."""


class Recorder:
    """Collects live audio until a word was said, or until it is clear that none will be.

    Parameters
    ----------
    rate : int
        Hz.

    Examples
    --------
    >>> import numpy as np
    >>> from kws_edge.teach.recorder import Recorder
    >>> recorder = Recorder(16000)
    >>> quiet = np.zeros(16000, np.int16)
    >>> word = (8000 * np.sin(np.arange(8000) * 0.2)).astype(np.int16)
    >>> recorder.hear(quiet) is None and recorder.hear(word) is None
    True
    >>> 14000 < len(recorder.hear(quiet)) < 30000
    True
    """

    def __init__(self, rate: int) -> None:
        self._rate, self._frame = rate, rate * FRAME_MS // 1000
        self.reset()

    def reset(self) -> None:
        """Wait for the next word."""
        self._heard = np.empty(0, np.int16)
        self._levels: list[float] = []
        self._start: int | None = None

    def hear(self, block: NDArray[np.int16]) -> NDArray[np.int16] | None:
        """Take the next samples, shape (n,), int16.

        Returns
        -------
        numpy.ndarray or None
            A recording with a word and quiet around it; or, after a while without a word, all that was heard.
            Afterwards the recorder waits for the next word.
        """
        self._heard = np.concatenate([self._heard, block])
        while (len(self._levels) + 1) * self._frame <= len(self._heard):
            at = len(self._levels) * self._frame
            self._levels += frame_levels(self._heard[at : at + self._frame], self._frame).tolist()
            if (found := self._ended()) is not None:
                recording = self._heard[found[0] * self._frame : found[1] * self._frame]
                self.reset()
                return recording
        return None

    def _ended(self) -> tuple[int, int] | None:
        """First frame, and frame after the last one, of a recording that the latest frame completes."""
        n = len(self._levels)
        if self._start is None:
            if n > _LEARNT and min(self._levels[-_BEGINS:]) > self._quiet:
                self._start = n - _BEGINS
            return (0, n) if n * FRAME_MS >= 1000 * _PATIENCE_S else None
        first = max(0, self._start - round(1000 * _BEFORE_S / FRAME_MS))
        if max(self._levels[-_ENDS:]) <= self._quiet and n - self._start >= _ENDS:
            return first, n
        return (first, n) if (n - self._start) * FRAME_MS >= 1000 * _LONGEST_S else None

    @property
    def _quiet(self) -> float:
        """Level that sound exceeds."""
        before = self._levels[: self._start]
        return max(_LEAST_DB, float(np.median(before[-100:])) + _ABOVE_DB)
