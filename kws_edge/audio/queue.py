"""Bounded queue between those who record and those who hear, and the sources that have one."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kws_edge.audio.source import Resampler, mono_pcm, pcm_frames
from kws_edge.diagnostics.latency import AUDIO, OFF, RESAMPLE, Stopwatch

__all__ = ["BlockQueue"]

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


class Queued:
    """A source whose blocks arrive by a :class:`BlockQueue` as interleaved int16."""

    queue: BlockQueue
    name: str
    source_rate: int
    channels: int
    lost = 0
    stopwatch: Stopwatch = OFF
    _rate: int
    _resampler: Resampler
    _timeout_s = 3.0
    _wanted = 1

    def want(self, seconds: float) -> None:
        """The reader has no use for its next block before it is this long: waking it for less is a waste."""
        self._wanted = max(1, math.ceil(min(seconds, _WANTED_S) * self.source_rate - 1e-6))  # not one more by rounding

    def frames(self) -> Iterator[np.ndarray]:
        """All channels as they come: blocks of shape (n, channels), int16, at `source_rate`."""
        while (got := self._next()) is not None:
            data, _, missing = got
            self.stopwatch.start(self.queue.arrived)
            if missing:
                self._resampler = Resampler(self.source_rate, self._rate)
                self.lost += round(missing * self._rate / self.source_rate)
            yield pcm_frames(data, self.channels)

    def __iter__(self) -> Iterator[np.ndarray]:
        for frames in self.frames():
            pcm = mono_pcm(frames)
            self.stopwatch.lap(AUDIO)
            samples = self._resampler.process(pcm)
            self.stopwatch.lap(RESAMPLE)
            if len(samples):
                yield samples

    def _next(self) -> tuple[bytes, int, int] | None:
        return self.queue.get(self._timeout_s, at_least=self._wanted)
