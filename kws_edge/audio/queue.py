"""Bounded queue between those who record and those who hear, and the sources that have one."""

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
    missing: int  # samples that are missing before it
    captured: float  # both of time.perf_counter
    arrived: float


class BlockQueue:
    """Bounded queue between who records and the reader: nobody waits, and what is too old is dropped and counted.

    What does not fit pushes the oldest out. Once a block is older than `max_age_s` when its turn comes, all that is
    older than a quarter of this goes with it: a stall costs one gap, and what comes after it is heard at once.

    Parameters
    ----------
    capacity : int
        Samples that may wait.
    max_age_s : float
        Seconds from capture to reading.
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
        """Samples that arrived, dropped ones included."""
        self.dropped = 0
        """Samples that found the queue full or were too old."""
        self.overruns = 0
        """Times that the audio system reported lost input."""
        self.arrived = 0.0
        """When the samples that the last :meth:`get` waited for were there, of :func:`time.perf_counter`."""

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
        """Called by whoever records; times are of :func:`time.perf_counter`, now if None.

        Parameters
        ----------
        data : bytes
        samples : int
            How many that is.
        overrun : bool
            Whether the audio system reported lost input.
        missing : int
            Samples that never arrived and belong before these.
        captured : float, optional
        arrived : float, optional
            When the audio system handed them on.
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
                self._wanted = 0  # more will not come before the reader does
                self._drop()
            if self._waiting >= self._wanted:
                self._ready.notify()

    def close(self) -> None:
        """No more blocks will come."""
        with self._ready:
            self._closed = True
            self._ready.notify()

    def reopen(self) -> None:
        """More blocks will come after all."""
        with self._ready:
            self._closed = False

    def get(self, timeout: float, *, at_least: int = 1) -> tuple[bytes, int, int] | None:
        """All that waits up to the next gap, its number of samples, and how many are missing before it; None once
        closed and empty.

        Raises
        ------
        TimeoutError
            If `at_least` samples did not come in `timeout` seconds. A queue that is full is enough.
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
        """Drop what is too old; whether anything is left."""
        now = time.perf_counter()
        while self._blocks and now - self._blocks[0].captured > self._max_age_s / (4 if self._late else 1):
            self._late = True
            self._drop()
        self._late = self._late and not self._blocks
        return bool(self._blocks)


class QueuedSource(LiveSource):
    """A source whose blocks arrive by a :class:`BlockQueue` as interleaved int16."""

    queue: BlockQueue
    source_rate: int
    """Hz of what arrives."""
    channels: int
    """Of what arrives; their mean is what is heard."""
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
        """Let the audio come, where it does not yet. A ``with`` block and the first read do so."""
        if not self._started:
            self._started = True
            self._begin()

    @abstractmethod
    def _begin(self) -> None:
        """Have the queue filled."""

    def frames(self) -> Iterator[NDArray[np.int16]]:
        """All channels as they come: blocks of shape (n, channels), int16, at `source_rate`.

        In place of :meth:`read`, not beside it.
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
    """Interleaved 16-bit PCM, shape (n, channels), int16."""
    return np.frombuffer(data, "<i2").reshape(-1, channels)
