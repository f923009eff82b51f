"""The latest audio of a room."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["History"]


class History:
    """The last samples of a stream without gaps. One thread adds, and any thread may ask.

    Parameters
    ----------
    samples : int
        Most samples to keep.

    Examples
    --------
    >>> import numpy as np
    >>> from kws_edge.service.history import History
    >>> history = History(4)
    >>> history.add(np.arange(6, dtype=np.int16))
    >>> history.start, history.end, history.between(3, 9)
    (2, 6, array([3, 4, 5], dtype=int16))
    """

    def __init__(self, samples: int) -> None:
        self._ring = np.zeros(samples, np.int16)
        self._lock = threading.Lock()
        self.origin = 0
        """Position in the stream at which the audio without gaps began."""
        self.end = 0
        """Position after the last sample."""

    @property
    def start(self) -> int:
        """Position of the first sample that is kept."""
        return max(self.origin, self.end - len(self._ring))

    def restart(self, position: int) -> None:
        """Forget everything: the stream has a gap, and goes on at this position."""
        with self._lock:
            self.origin = self.end = position

    def add(self, block: NDArray[np.int16]) -> None:
        """Add the next samples, shape (n,), int16."""
        n = len(self._ring)
        last = block[-n:]
        with self._lock:
            at = (self.end + len(block) - len(last)) % n
            first = min(len(last), n - at)
            self._ring[at : at + first] = last[:first]
            self._ring[: len(last) - first] = last[first:]
            self.end += len(block)

    def between(self, start: int, end: int) -> NDArray[np.int16]:
        """A copy of the samples from position `start` to `end`, as far as they are kept, shape (n,), int16."""
        n = len(self._ring)
        with self._lock:
            start, end = max(start, self.start), min(end, self.end)
            if start >= end:
                return np.empty(0, np.int16)
            at = start % n
            first = min(end - start, n - at)
            return np.concatenate([self._ring[at : at + first], self._ring[: end - start - first]])
