"""Live audio from an address that ffmpeg reads: a camera's RTSP stream, a web radio, an ALSA device by its name."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from kws_edge.audio.ffmpeg import Child, MissingError
from kws_edge.audio.queue import QUEUE_S, BlockQueue, QueuedSource
from kws_edge.audio.resampler import Resampler
from kws_edge.audio.source import BLOCK_MS
from kws_edge.errors import AudioError

__all__ = ["RemoteStream"]

_MAX_AGE_S = 2.0
_SILENT_S = 10.0
"""If an ffmpeg that runs gives nothing for this many seconds, it is started anew."""
_RETRY_S, _LONGEST_RETRY_S = 0.5, 30.0
_POLL_S = 0.5
_PROBED = "32768"  # bytes that ffmpeg looks at first; by default they are five seconds of audio
_SECRET = re.compile(r"(?<=//)[^/?\s]+@|\?\S+?(?=:?(?:\s|$))")
"""What addresses hold that no log should: the user's name and password, and a query, which may be a token."""


class RemoteStream(QueuedSource):
    """Live audio from an address. If the stream ends or stalls, it is opened again and again.

    What is missing meanwhile counts in `lost_samples`, by the clock.

    Parameters
    ----------
    address : str
        What ffmpeg calls its input: ``rtsp://camera/stream``, or ``hw:1`` with the format ``alsa``.
    format : str, optional
        ffmpeg's name of the input's format; None: ffmpeg finds out.
    sample_rate : int
        Hz of the blocks.
    notice : callable, optional
        Called with a text when the stream is gone or back.

    Raises
    ------
    AudioError
        If ffmpeg is not installed.
    """

    channels = 1

    def __init__(
        self,
        address: str,
        *,
        sample_rate: int,
        format: str | None = None,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        self.name = _SECRET.sub("", address)
        self.sample_rate = self.source_rate = sample_rate
        self._resampler = Resampler(sample_rate, sample_rate)
        self.queue = BlockQueue(round(QUEUE_S * sample_rate), max_age_s=_MAX_AGE_S)
        self._notice = notice
        self._command = ["-probesize", _PROBED, "-threads", "1"]
        if format:
            self._command += ["-f", format]
        if address.startswith("rtsp"):
            self._command += ["-rtsp_transport", "tcp"]
        self._command += ["-i", address, "-map", "0:a:0", "-ac", "1", "-ar", str(sample_rate), "-f", "s16le", "pipe:"]
        self._closed = threading.Event()
        self._ended: float | None = None  # time at which the last audio arrived
        self._heard = time.monotonic()
        try:
            self._child: Child | None = Child(self._command)
        except MissingError:
            raise AudioError(f"{self.name}: needs ffmpeg: sudo apt install ffmpeg") from None
        self._thread = threading.Thread(target=self._record, name="ffmpeg", daemon=True)

    def _begin(self) -> None:
        self._thread.start()

    def _record(self) -> None:
        """Put the audio into the queue, until :meth:`close`."""
        wait_s = _RETRY_S
        while not self._closed.is_set():
            self.attempts += 1
            with suppress(AudioError):
                child = self._child or Child(self._command)
                self._child, arrived = child, self._ended
                if self._closed.is_set():
                    child.process.kill()
                self._take(child)
                if self._ended != arrived:
                    wait_s = _RETRY_S
                child.process.kill()
                child.process.wait()
                self._told_gone(child.reason())
                self._child = None
                child.close()
            self._closed.wait(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_RETRY_S)
        self.queue.close()

    def _take(self, child: Child) -> None:
        size = 2 * (self.sample_rate * BLOCK_MS // 1000)
        odd = b""
        self._heard = time.monotonic()
        while data := odd + child.out.read(size):
            if len(data) == len(odd):
                return
            data, odd = data[: len(data) & ~1], data[len(data) & ~1 :]
            samples, missing, now = len(data) // 2, 0, time.monotonic()
            if self.gone and self._ended is not None:
                missing = max(0, round((now - self._ended) * self.sample_rate) - samples)
            if self.gone:
                self.gone = False
                self._say(f"is back: {missing / self.sample_rate:.1f} s lost; detection starts anew")
            self._ended = self._heard = now
            self.queue.put(data, samples, missing=missing)

    def _told_gone(self, reason: str) -> None:
        if not self.gone and not self._closed.is_set():
            self.gone = True
            self.outages += 1
            self._say(f"is gone ({_SECRET.sub('', reason)}); waiting until it is back")

    def _say(self, text: str) -> None:
        if self._notice:
            self._notice(f"{self.name} {text}")

    def _next(self) -> tuple[bytes, int, int] | None:
        while True:
            with suppress(TimeoutError):
                return self.queue.get(_POLL_S, at_least=self._wanted)
            child = self._child
            if child and time.monotonic() - self._heard > _SILENT_S:
                self._heard = time.monotonic()
                child.process.kill()

    def close(self) -> None:
        self._closed.set()
        if child := self._child:
            child.process.kill()
        if self._started:
            self._thread.join(_LONGEST_RETRY_S)
        elif child:
            child.close()
        self.queue.close()
