"""The last rows of a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Window"]


class Window:
    """The last `n` rows that were pushed, contiguous in memory.

    They move through a buffer. At its end they are copied back to its start.
    """

    def __init__(self, n: int, columns: int, dtype: np.dtype[Any] | type | str) -> None:
        self._buffer = np.zeros((2 * n, columns), dtype)
        self._n = self._end = n

    @property
    def rows(self) -> NDArray[Any]:
        """The last `n` rows, shape (n, columns)."""
        return self._buffer[self._end - self._n : self._end]

    def extend(self, n: int) -> NDArray[Any]:
        """Return the next `n` rows for the caller to fill. `n` is at most the window's number of rows."""
        start = self._end
        if start + n > len(self._buffer):
            self._buffer[: self._n] = self.rows
            start = self._n
        self._end = start + n
        return self._buffer[start : self._end]
