"""Microphones, through PortAudio or the sound server."""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress

from kws_edge.audio.capture import ANSWER_S, Capture, InputDevice
from kws_edge.audio.devices import choose_device, same_device
from kws_edge.audio.queue import QUEUE_S, BlockQueue, QueuedSource
from kws_edge.audio.resampler import Resampler
from kws_edge.audio.source import BLOCK_MS
from kws_edge.errors import AudioError

__all__ = ["Microphone"]

_MAX_AGE_S = 2.0
_JUMP_S = 0.25
_SHORTEST_GAP_S = 0.03
_RETRY_S, _LONGEST_RETRY_S = 0.5, 2.0
_REOPEN_S, _LONGEST_REOPEN_S = 2.0, 5.0
_NOTICE_S = 5.0


class Microphone(QueuedSource):
    """Live input through PortAudio, or from a source of the sound server. It continues when its device returns.

    The device is opened at `sample_rate`, or else at a rate that it accepts; its audio is then converted. A process of
    its own records, a :class:`kws_edge.audio.capture.Capture`. This process is killed when the stream ends or nothing
    comes for three seconds: the microphone was unplugged, or the sound server restarted or hangs. New processes then
    look for the device by its name, for up to `patience_s`.

    Samples are lost during such an outage, by overruns, or because they are too old when they are read. They count in
    `lost_samples`, and the clock of a :class:`kws_edge.Spotter` skips them. Any thread may call :meth:`close`, which
    ends the source for good.

    Parameters
    ----------
    device : str, int or InputDevice, optional
        Name or a part of it, number, or an item of :func:`kws_edge.input_devices`. None is the default device.
    sample_rate : int
        Hz of the blocks.
    device_rate : int, optional
        Rate in Hz to open the device at, if the device accepts it.
    channels : int, optional
        Channels to open, if the device has them; None opens as few as possible. The model hears their mean.
    patience_s : float
        Seconds to wait for a microphone that is gone. With 0, an error is raised at once.
    max_age_s : float
        Age in seconds beyond which samples are dropped.
    notice : callable, optional
        Called with a text when an outage, a gap or a refused rate occurs.
    capture : Capture, optional
        Process to record with. One that you started earlier has listed the devices by now.

    Attributes
    ----------
    queue : BlockQueue
        Holds the counts of dropped samples and overruns.
    lost_samples : int
        Samples, at `sample_rate`, that are missing so far.
    outages : int
        How often the microphone was gone.
    source_rate, channels : int
        Rate in Hz and number of channels that the device was opened with.

    Raises
    ------
    AudioError
        If there is no such device, if it is busy, or if it accepts no rate. While reading: if the device is gone for
        longer than `patience_s`.

    Examples
    --------
    >>> from kws_edge import Microphone
    >>> with Microphone(sample_rate=16000) as microphone:
    ...     block = microphone.read()
    >>> block.ndim, str(block.dtype)
    (1, 'int16')
    """

    def __init__(
        self,
        device: str | int | InputDevice | None = None,
        *,
        sample_rate: int,
        device_rate: int | None = None,
        channels: int | None = None,
        patience_s: float = math.inf,
        max_age_s: float = _MAX_AGE_S,
        notice: Callable[[str], None] | None = None,
        capture: Capture | None = None,
    ) -> None:
        self.sample_rate, self._wanted_rate, self._wanted_channels = sample_rate, device_rate, channels
        self._patience_s, self._notice = patience_s, notice
        self.outages = 0
        self._closed = threading.Event()
        self._end: float | None = None  # capture time of the last sample that arrived
        self._opened = False  # whether the stream is open but has not delivered yet
        self._latency = math.inf
        self._told, self._untold_s = -math.inf, 0.0
        self._cpu_s, self._peak_bytes = 0.0, 0  # of processes that have ended
        self._adopt(capture or Capture())
        try:
            self._open(choose_device(device, self._capture))
        except AudioError:
            self._capture.kill()
            raise
        self._ready_s = self._capture.ready_s
        if device_rate not in (None, self.source_rate):
            self._say(f"does not take {device_rate} Hz; opened at {self.source_rate} Hz and converted")
        self.queue = BlockQueue(round(QUEUE_S * self.source_rate), max_age_s=max_age_s)

    def _adopt(self, capture: Capture) -> None:
        """Record with the given process, which ends with this object."""
        self._capture = capture
        self._ending = weakref.finalize(self, capture.kill)

    def _discard(self) -> None:
        """End the process that records."""
        self._ending()
        self._cpu_s += self._capture.cpu_s
        self._peak_bytes = max(self._peak_bytes, self._capture.peak_bytes)
        self._capture.cpu_s = 0.0

    @property
    def process_id(self) -> int:
        """Number of the process that records, by which sound servers know it."""
        return self._capture.pid

    @property
    def helper(self) -> Microphone:
        return self

    @property
    def cpu_s(self) -> float:
        """CPU time of all processes that have recorded, in seconds."""
        return self._cpu_s + self._capture.cpu_s

    @property
    def peak_bytes(self) -> int:
        """Peak resident memory of these processes, in bytes. It is known at the end, if the system reports it."""
        return self._peak_bytes

    def _say(self, text: str) -> None:
        if self._notice:
            self._notice(f"microphone {self.name!r} {text}")

    def _open(self, found: InputDevice, timeout: float = ANSWER_S) -> None:
        rates = (self._wanted_rate, self.sample_rate, found.rate, 48000, 44100)
        channels = (self._wanted_channels and min(self._wanted_channels, found.channels), 1, 2, found.channels)
        rate, n = self._capture.open(
            found,
            [rate for rate in dict.fromkeys(rates) if rate],
            [n for n in dict.fromkeys(channels) if n and n <= found.channels],
            timeout=timeout,
        )
        self._resampler = Resampler(rate, self.sample_rate)
        self._device, self.name, self.source_rate, self.channels = found, found.name, rate, n
        self._opened, self._latency = True, math.inf

    def _begin(self, timeout: float = ANSWER_S) -> None:
        if not self._closed.is_set():
            self._capture.start(self._take, self.queue.close, timeout=timeout)

    def _take(self, data: bytes, overrun: bool, arrived: float, age: float) -> None:
        """Take some blocks, in the thread that reads."""
        rate = self.source_rate
        samples = len(data) // (2 * self.channels)
        end = arrived - age + self._block / rate
        start = end - samples / rate
        jump = 0.0 if self._end is None else start - self._end
        lost = jump > _SHORTEST_GAP_S and (jump > _JUMP_S or self._opened or overrun)
        self._end, self._opened = end, False
        # Every system has a latency, which does not count as delay. It changes more slowly than samples age in a stall.
        self._latency = min(age, self._latency + samples / rate / 50)
        self.queue.put(
            data,
            samples,
            overrun=overrun,
            missing=round(jump * rate) if lost else 0,
            captured=start + self._latency,
            arrived=arrived,
        )

    @property
    def _block(self) -> int:
        """Samples of a block that arrives."""
        return self.source_rate * BLOCK_MS // 1000

    def want(self, seconds: float) -> None:
        super().want(seconds)
        self._capture.want(math.ceil(self._wanted / self._block))

    def _next(self) -> tuple[bytes, int, int] | None:
        gone: float | None = None  # time since which the device is gone
        while not self._closed.is_set():
            got, reason = None, f"no audio for {self._timeout_s:.0f} s"
            for _ in range(round(self._timeout_s / _RETRY_S)):  # after this process was stopped, one of these is over
                with suppress(TimeoutError):
                    got, reason = self.queue.get(_RETRY_S, at_least=self._wanted), "its stream ended"
                    break
            if self._closed.is_set():
                break
            if got:
                seconds = got[2] / self.source_rate
                if gone is not None:
                    self.gone = False
                    self._say(f"is back: {seconds:.1f} s lost; detection starts anew")
                elif seconds:
                    self._gap(seconds)
                return got
            if gone is None:
                if not self._patience_s:
                    raise AudioError(f"microphone {self.name!r}: {reason}; was it unplugged?")
                gone = time.monotonic()
                self.outages += 1
                self.gone = True
                self._say(f"is gone ({reason}); waiting until it is back")
            if not self._reopen(gone + self._patience_s):
                raise AudioError(f"microphone {self.name!r}: {reason}, and not back in {self._patience_s:g} s")
        self._discard()  # another thread may have called close() while a new process started
        return None

    def _gap(self, seconds: float) -> None:
        """Report that samples are missing, but not every time."""
        self._untold_s += seconds
        if time.monotonic() - self._told > _NOTICE_S:
            self._say(f"lost {self._untold_s:.1f} s: the machine was too slow, or stood still; detection starts anew")
            self._told, self._untold_s = time.monotonic(), 0.0

    def _reopen(self, until: float) -> bool:
        """Open the device again in a new process as soon as the device is back.

        Return False after the time `until`. Return True, too, if this object was closed.
        """
        wait, answer, longest = _RETRY_S, _REOPEN_S, max(_LONGEST_REOPEN_S, 3 * self._ready_s)
        while True:
            self.attempts += 1
            self._discard()
            if self._closed.wait(max(0.0, min(wait, until - time.monotonic()))):
                return True
            left = until - time.monotonic()
            if left <= 0:
                return False
            with suppress(AudioError):
                self._adopt(Capture())
                timeout = min(answer, left)
                self._open(same_device(self._device, self._capture, timeout), timeout)
                self.queue.reopen()
                self._begin(timeout)
                return True
            # Wait longer each time, for a machine that is slow now. But keep a limit: the new process may hang, too.
            wait, answer = min(2 * wait, _LONGEST_RETRY_S), min(2 * answer, longest)

    def close(self) -> None:
        self._closed.set()
        self.queue.close()
        self._discard()
