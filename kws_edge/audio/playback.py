"""Recordings played like live audio."""

from __future__ import annotations

import os
import threading
import time

from kws_edge.audio.file import AudioFile
from kws_edge.audio.queue import QUEUE_S, BlockQueue, QueuedSource
from kws_edge.audio.resampler import Resampler
from kws_edge.audio.source import BLOCK_MS

__all__ = ["Playback"]


class Playback(QueuedSource):
    """A recording that arrives like a microphone's audio: in small blocks, in real time, through a bounded queue.

    Parameters
    ----------
    path : str or path
    sample_rate : int
        Hz of the blocks.
    real_time : bool
        If False, blocks are delivered as fast as they are read.
    """

    def __init__(self, path: str | os.PathLike[str], *, sample_rate: int, real_time: bool = True) -> None:
        with AudioFile(path, sample_rate=sample_rate) as file:
            self._samples = file.read_all()
        self.name, self.channels, self.sample_rate, self.source_rate = file.name, 1, sample_rate, sample_rate
        self._real_time = real_time
        self._resampler = Resampler(sample_rate, sample_rate)
        self.queue = BlockQueue(round(QUEUE_S * sample_rate) if real_time else len(self._samples))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play, name="playback", daemon=True)

    def _play(self) -> None:
        block = self.source_rate * BLOCK_MS // 1000
        start = time.monotonic()
        for at in range(0, len(self._samples), block):
            data = self._samples[at : at + block]
            due = start + (at + len(data)) / self.source_rate if self._real_time else 0.0
            if self._stop.wait(max(0.0, due - time.monotonic())):
                break
            self.queue.put(data.tobytes(), len(data))
        self.queue.close()

    def _begin(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._started:
            self._thread.join()
