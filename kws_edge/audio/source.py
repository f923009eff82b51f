"""What every source of samples has in common."""

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
"""What arrives together, as a rule."""
_Self = TypeVar("_Self", bound="Source")


class Source(ABC):
    """Where a :class:`kws_edge.Spotter` gets its samples: blocks of mono int16, to be had by :meth:`read` or by a loop.

    A source of your own sets `sample_rate`, and `name` where messages are to name it, and has :meth:`read`. It
    overrides :meth:`close` if it has something to close, and adds to `lost_samples` what it could not deliver.

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
    """What messages call it."""
    sample_rate: int
    """Hz of the blocks."""
    lost_samples: int = 0
    """Samples, at `sample_rate`, that are missing from the stream before the end of the block that came last."""
    stopwatch: Stopwatch = OFF
    """Started when a block arrives, and told of each stage until the spotter has it."""

    @property
    def helper(self) -> Helper | None:
        """What tells the cost of another process that does a part of the work."""
        return None

    @abstractmethod
    def read(self) -> NDArray[np.int16] | None:
        """The next block, shape (n,), int16, n > 0, as soon as it is there; None once the source has ended.

        Raises
        ------
        AudioError
            If there are no more samples for another reason than the end.
        """

    def close(self) -> None:  # noqa: B027 - most need none
        """End it, and whatever works for it; leaving its ``with`` block does so."""

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[NDArray[np.int16]]:
        while (block := self.read()) is not None:
            yield block


class LiveSource(Source):
    """A source that goes on whether it is read or not: what waits too long is dropped, and counts as lost.

    Raises
    ------
    AudioError
        By :meth:`read`, if it is gone.

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
    ...     def want(self, seconds):
    ...         pass
    >>> radio = Radio()
    >>> for _ in range(101):
    ...     radio.arrived(np.zeros(320, np.int16))
    >>> len(radio.read()), radio.lost_samples
    (320, 320)
    """

    outages: int = 0
    """Times that it was gone."""

    @property
    @abstractmethod
    def dropped_samples(self) -> int:
        """Samples, at its own rate, that nobody read in time."""

    @property
    @abstractmethod
    def overruns(self) -> int:
        """Times that the audio system reported lost input."""

    @abstractmethod
    def want(self, seconds: float) -> None:
        """The reader has no use for its next block before it is this long: waking it for less is a waste."""
