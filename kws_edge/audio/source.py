"""Base classes of all sources of samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from kws_edge.diagnostics.latency import OFF, Helper, Stopwatch

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BLOCK_MS", "LiveSource", "Source"]

BLOCK_MS = 20
"""Usual length of a block, in milliseconds."""
_Self = TypeVar("_Self", bound="Source")


class Source(ABC):
    """Gives a :class:`kws_edge.Spotter` its samples: blocks of mono int16, by :meth:`read` or by a loop.

    To write a source of your own, set `sample_rate` and `name`, and define :meth:`read`. Override :meth:`close` if
    there is something to close. If samples were lost, add their number to `lost_samples`.

    Examples
    --------
    >>> import io
    >>> import numpy as np
    >>> from kws_edge import Source
    >>> class Sensor(Source):
    ...     name, sample_rate = "sensor", 16000
    ...     def __init__(self, device):
    ...         self._device = device
    ...     def read(self):
    ...         data = self._device.read(640)
    ...         return np.frombuffer(data, np.int16) if data else None
    ...     def close(self):
    ...         self._device.close()
    >>> with Sensor(io.BytesIO(bytes(1000))) as source:
    ...     [len(block) for block in source]
    [320, 180]
    """

    name: str = "the source"
    """Name of the source in messages."""
    sample_rate: int
    """Sample rate of the blocks, in Hz."""
    lost_samples: int = 0
    """Number of samples, at `sample_rate`, that are missing from the stream up to the end of the last block."""
    stopwatch: Stopwatch = OFF
    """Times each stage from a block's arrival until the spotter has the block."""

    @property
    def helper(self) -> Helper | None:
        """Gives the cost of another process that does a part of the work, if there is one."""
        return None

    @abstractmethod
    def read(self) -> NDArray[np.int16] | None:
        """Return the next block, shape (n,), int16, n > 0, as soon as it is there. Return None after the end.

        Raises
        ------
        AudioError
            If reading fails before the end.
        """

    def want(self, seconds: float) -> None:  # noqa: B027 - a source may ignore it
        """Say how long the next block must be for the reader to use it. The source then wakes the reader less often."""

    def close(self) -> None:  # noqa: B027 - most need none
        """End the source, and any process or thread that works for it. Leaving the ``with`` block does so."""

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[NDArray[np.int16]]:
        while (block := self.read()) is not None:
            yield block


class LiveSource(Source):
    """A source that goes on whether you read it or not. Samples that wait too long are dropped, and count as lost.

    Raises
    ------
    AudioError
        By :meth:`read`, if the source is gone.

    Examples
    --------
    >>> from collections import deque
    >>> import numpy as np
    >>> from kws_edge import LiveSource
    >>> class Radio(LiveSource):
    ...     name, sample_rate, overruns, dropped_samples = "radio", 16000, 0, 0
    ...     def __init__(self):
    ...         self._blocks = deque(maxlen=100)
    ...     def arrived(self, block):
    ...         if len(self._blocks) == 100:
    ...             self.dropped_samples += len(self._blocks[0])
    ...         self._blocks.append(block)
    ...     def read(self):
    ...         self.lost_samples = self.dropped_samples
    ...         return self._blocks.popleft() if self._blocks else None
    >>> radio = Radio()
    >>> for _ in range(101):
    ...     radio.arrived(np.zeros(320, np.int16))
    >>> len(radio.read()), radio.lost_samples
    (320, 320)
    """

    outages: int = 0
    """How often the source was gone."""
    gone: bool = False
    """Whether the source is gone now. It then tries to return."""
    attempts: int = 0
    """How often the source has tried to return. While it is gone, this number grows, or the source hangs."""

    @property
    @abstractmethod
    def dropped_samples(self) -> int:
        """Samples, at the source's own rate, that nobody read in time."""

    @property
    @abstractmethod
    def overruns(self) -> int:
        """How often the audio system reported lost input."""
