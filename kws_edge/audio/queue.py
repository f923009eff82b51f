"""A bounded queue between recorder and reader, and the base class of sources that use it."""

from __future__ import annotations

import math
import threading
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from kws_edge.audio.resampler import Resampler, mono_pcm
from kws_edge.audio.source import LiveSource
from kws_edge.diagnostics.latency import AUDIO, RESAMPLE

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["QUEUE_S", "BlockQueue", "QueuedSource", "pcm_frames"]

_Queued = TypeVar("_Queued", bound="QueuedSource")

QUEUE_S = 5.0
_WANTED_S = 0.2


class _Block(NamedTuple):
    data: bytes
    samples: int
    missing: int  # number of samples that are missing before this block
    captured: float  # this and the next: times of time.perf_counter
    arrived: float


class BlockQueue:
    """Bounded queue between recorder and reader. The recorder never waits; old samples are dropped and counted.

    If a block does not fit, the oldest blocks are dropped. If the next block is older than `max_age_s`, every block
    older than a quarter of `max_age_s` is dropped, too. So a stall costs one gap, and later audio is heard at once.

    Parameters
    ----------
    capacity : int
        Most samples that may wait.
    max_age_s : float
        Longest time from capture to reading, in seconds.
    """

    def __init__(self, capacity: int, *, max_age_s: float = math.inf) -> None:
        self._capacity, self._max_age_s = capacity, max_age_s
        self._blocks: deque[_Block] = deque()
        self._ready = threading.Condition()
        self._waiting = 0
        self._wanted = 1
        self._lost = 0
        self._late = False
        self._closed = False
        self.samples = 0
        """Samples that arrived, including dropped ones."""
        self.dropped = 0
        """Samples that were dropped because the queue was full or they were too old."""
        self.overruns = 0
        """How often the audio system reported lost input."""
        self.arrived = 0.0
        """Time at which the samples of the last :meth:`get` were complete, by :func:`time.perf_counter`."""

    def put(
        self,
        data: bytes,
        samples: int,
        *,
        overrun: bool = False,
        missing: int = 0,
        captured: float | None = None,
        arrived: float | None = None,
    ) -> None:
        """Add a block. Only the recorder calls this.

        Parameters
        ----------
        data : bytes
        samples : int
            Number of samples in `data`.
        overrun : bool
            Whether the audio system reported lost input.
        missing : int
            Number of samples before this block that never arrived.
        captured, arrived : float, optional
            Times at which the samples were captured, and handed on by the audio system. Both are times of
            :func:`time.perf_counter`. The default is the present.
        """
        with self._ready:
            self.samples += samples
            self.overruns += overrun
            now = time.perf_counter()
            self._blocks.append(
                _Block(
                    data, samples, missing, now if captured is None else captured, now if arrived is None else arrived
                )
            )
            self._waiting += samples
            while self._waiting > self._capacity:
                self._wanted = 0  # no more samples fit before the reader takes some
                self._drop()
            if self._waiting >= self._wanted:
                self._ready.notify()

    def close(self) -> None:
        """Say that no more blocks will come."""
        with self._ready:
            self._closed = True
            self._ready.notify()

    def reopen(self) -> None:
        """Say that more blocks will come after all."""
        with self._ready:
            self._closed = False

    def get(self, timeout: float, *, at_least: int = 1) -> tuple[bytes, int, int] | None:
        """Take all waiting blocks up to the next gap.

        Parameters
        ----------
        timeout : float
            Seconds to wait.
        at_least : int
            Samples to wait for.

        Returns
        -------
        tuple of (bytes, int, int), or None
            The data, its number of samples, and the number of samples missing before it. None once the queue is closed
            and empty.

        Raises
        ------
        TimeoutError
            If fewer than `at_least` samples came in `timeout` seconds, and the queue is not full.
        """
        with self._ready:
            self._wanted = at_least
            if not self._ready.wait_for(self._is_enough, timeout):
                raise TimeoutError
            if not self._blocks:
                return None
            missing, self._lost = self._lost + self._blocks[0].missing, 0
            taken = [self._blocks.popleft()]
            while self._blocks and not self._blocks[0].missing:
                taken.append(self._blocks.popleft())
            for block in taken:
                self.arrived = block.arrived
                at_least -= block.samples
                if at_least <= 0:
                    break
            samples = sum(block.samples for block in taken)
            self._waiting -= samples
            return b"".join([block.data for block in taken]), samples, missing

    def _is_enough(self) -> bool:
        return self._closed or (self._fresh() and self._waiting >= self._wanted)

    def _drop(self) -> None:
        block = self._blocks.popleft()
        self._waiting -= block.samples
        self.dropped += block.samples
        self._lost += block.samples + block.missing

    def _fresh(self) -> bool:
        """Drop blocks that are too old; return whether any block is left."""
        now = time.perf_counter()
        while self._blocks and now - self._blocks[0].captured > self._max_age_s / (4 if self._late else 1):
            self._late = True
            self._drop()
        self._late = self._late and not self._blocks
        return bool(self._blocks)


class QueuedSource(LiveSource):
    """A source whose blocks arrive through a :class:`BlockQueue` as interleaved int16."""

    queue: BlockQueue
    source_rate: int
    """Sample rate of the blocks that arrive, in Hz."""
    channels: int
    """Channels of the blocks that arrive. The model hears their mean."""
    _resampler: Resampler
    _timeout_s = 3.0
    _wanted = 1
    _started = False

    @property
    def dropped_samples(self) -> int:
        return self.queue.dropped

    @property
    def overruns(self) -> int:
        return self.queue.overruns

    def want(self, seconds: float) -> None:
        self._wanted = max(1, math.ceil(min(seconds, _WANTED_S) * self.source_rate - 1e-6))  # not one more by rounding

    def __enter__(self: _Queued) -> _Queued:
        self.start()
        return self

    def start(self) -> None:
        """Start the audio, unless it has started. A ``with`` block and the first read do so."""
        if not self._started:
            self._started = True
            self._begin()

    @abstractmethod
    def _begin(self) -> None:
        """Start filling the queue."""

    def frames(self) -> Iterator[NDArray[np.int16]]:
        """Yield all channels unconverted: blocks of shape (n, channels), int16, at `source_rate`.

        Use this in place of :meth:`read`, not beside it.
        """
        while (frames := self._read_frames()) is not None:
            yield frames

    def _read_frames(self) -> NDArray[np.int16] | None:
        self.start()
        if (got := self._next()) is None:
            return None
        data, _, missing = got
        self.stopwatch.start(self.queue.arrived)
        if missing:
            self._resampler = Resampler(self.source_rate, self.sample_rate)
            self.lost_samples += round(missing * self.sample_rate / self.source_rate)
        return pcm_frames(data, self.channels)

    def read(self) -> NDArray[np.int16] | None:
        while (frames := self._read_frames()) is not None:
            pcm = mono_pcm(frames)
            self.stopwatch.lap(AUDIO)
            samples = self._resampler.process(pcm)
            self.stopwatch.lap(RESAMPLE)
            if len(samples):
                return samples
        return None

    def _next(self) -> tuple[bytes, int, int] | None:
        return self.queue.get(self._timeout_s, at_least=self._wanted)


def pcm_frames(data: bytes, channels: int) -> NDArray[np.int16]:
    """Return interleaved 16-bit PCM as an array of shape (n, channels), int16."""
    return np.frombuffer(data, "<i2").reshape(-1, channels)
