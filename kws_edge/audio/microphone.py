"""Microphones, through PortAudio."""

from __future__ import annotations

import ctypes
import math
import re
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from kws_edge.audio.queue import QUEUE_S, BlockQueue, Queued
from kws_edge.audio.source import BLOCK_MS, Resampler
from kws_edge.errors import AudioError
from kws_edge.native import quiet_native

__all__ = ["InputDevice", "Microphone", "find_device", "input_devices"]

_MAX_AGE_S = 2.0
_JUMP_S = 0.25
_SHORTEST_GAP_S = 0.03
_RETRY_S = 0.5
_CLOSE_S = 3.0
_NOTICE_S = 5.0
# What the audio system may keep back: with its least, 10 to 40 ms, it wakes up so often that it costs twice the CPU.
_LATENCY_S = 0.08


def _forget_encoders() -> None:
    """Take ALSA's AC-3 encoder out of the process's configuration.

    PortAudio opens every device of the configuration to see whether it can record. This one cannot, but where
    libasound2-plugins is installed opening it loads FFmpeg: 14 MB, and a tenth of a second.
    """
    with suppress(OSError, AttributeError, ValueError):  # no ALSA: nothing to forget
        alsa = ctypes.CDLL("libasound.so.2")
        if alsa.snd_config_update() >= 0:
            root, found = ctypes.c_void_p.in_dll(alsa, "snd_config"), ctypes.c_void_p()
            if alsa.snd_config_search(root, b"pcm.a52", ctypes.byref(found)) == 0:
                alsa.snd_config_delete(found)


def _sounddevice():
    try:
        with quiet_native():
            if "sounddevice" not in sys.modules:
                _forget_encoders()
            import sounddevice
    except ImportError:
        raise AudioError("the microphone needs sounddevice: pip install sounddevice") from None
    except OSError as error:
        raise AudioError(f"the microphone needs PortAudio ({error}): sudo apt install libportaudio2") from None
    return sounddevice


@dataclass(frozen=True)
class InputDevice:
    """A microphone as PortAudio lists it."""

    index: int
    name: str
    host_api: str
    channels: int
    rate: int
    """Its own sample rate, Hz."""
    default: bool


def input_devices() -> list[InputDevice]:
    """Every device that can record.

    Raises
    ------
    AudioError
        If PortAudio is missing or fails.
    """
    sd = _sounddevice()
    with _portaudio_errors(sd, "audio devices"):
        apis = [api["name"] for api in sd.query_hostapis()]
        default = sd.default.device[0]
        return [
            InputDevice(
                index=d["index"],
                name=d["name"],
                host_api=apis[d["hostapi"]],
                channels=d["max_input_channels"],
                rate=round(d["default_samplerate"]),
                default=d["index"] == default,
            )
            for d in sd.query_devices()
            if d["max_input_channels"] > 0
        ]


@contextmanager
def _portaudio_errors(sd: Any, what: str) -> Iterator[None]:
    """The one place where PortAudio's errors become ours."""
    try:
        with quiet_native():
            yield
    except sd.PortAudioError as error:
        text = " ".join(str(error).split())
        if "unavailable" in text.lower():
            text = f"busy or gone ({text}); close the program that records from it, or choose another: kws-edge devices"
        raise AudioError(f"{what}: {text}") from None


def find_device(wanted: str | int | None) -> InputDevice:
    """The input device with this number, or the one whose name contains this text; the default one for None.

    Raises
    ------
    AudioError
        If there is no such device, or several.
    """
    devices = input_devices()
    if not devices:
        raise AudioError("no microphone found; plug one in, and see `kws-edge devices`")
    if wanted is None:
        return next((d for d in devices if d.default), devices[0])
    if isinstance(wanted, int) or (wanted.isascii() and wanted.isdigit() and len(wanted) < 10):
        matches = [d for d in devices if d.index == int(wanted)]
    else:
        matches = [d for d in devices if d.name == wanted] or [d for d in devices if wanted.lower() in d.name.lower()]
    if not matches:
        raise AudioError(f"no input device {wanted!r} (or another program holds it); `kws-edge devices` lists them")
    if len(matches) > 1:
        names = "; ".join(f"{d.index} {d.name}" for d in matches)
        raise AudioError(f"several input devices match {wanted!r}: {names}. Give the number")
    return matches[0]


_live: weakref.WeakSet[Microphone] = weakref.WeakSet()
"""Those whose stream is open: PortAudio lists devices anew only when it is shut down, which would end them."""


class Microphone(Queued):
    """Live input through PortAudio that outlives its device.

    Opened at `rate` if the device takes it, or else at a rate that it takes, and converted. When the stream ends or
    nothing comes for three seconds, because the microphone was unplugged or the sound server restarted, the device is
    looked for by its name until it is there again, for `patience_s`; PortAudio is then initialised anew, which ends
    streams that this process has by other means than this class. What is lost meanwhile, by overruns, or because it is
    too old when its turn comes, counts in `lost`, and :meth:`kws_edge.Spotter.run` makes its clock skip it.

    Parameters
    ----------
    device : str or int, optional
        Number, or part of the name; the default device if None.
    rate : int
        Hz of the blocks.
    device_rate : int, optional
        Rate to open the device at, if it takes it.
    channels : int, optional
        Channels to open, if the device has them; as few as it takes if None. Their mean is what is heard.
    patience_s : float
        Seconds to wait for a microphone that is gone; 0 raises an error at once.
    max_age_s : float
        Age at which a sample is no longer worth hearing, seconds.
    notice : callable, optional
        Told in words of every outage, gap and refused rate, when it happens.

    Attributes
    ----------
    queue : BlockQueue
        With the counts of dropped samples and overruns.
    lost : int
        Samples, at `rate`, that are missing so far.
    outages : int
        Times that the microphone was gone.
    source_rate, channels : int
        What the device was opened with.

    Raises
    ------
    AudioError
        If there is no such device, it is busy, or it takes no rate; while it is read, if it is gone for too long.
    """

    def __init__(
        self,
        device: str | int | None = None,
        *,
        rate: int,
        device_rate: int | None = None,
        channels: int | None = None,
        patience_s: float = math.inf,
        max_age_s: float = _MAX_AGE_S,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        self._sd = _sounddevice()
        self._rate, self._wanted_rate, self._wanted_channels = rate, device_rate, channels
        self._patience_s, self._notice = patience_s, notice
        self.outages = 0
        self._end: float | None = None  # when the last sample that arrived was captured
        self._opened = False  # a stream that has not delivered yet
        self._latency = math.inf
        self._told, self._untold_s = -math.inf, 0.0
        self._leaving = threading.Event()
        self._worker: threading.Thread | None = None
        self._stream = self._open(find_device(device))
        if device_rate not in (None, self.source_rate):
            self._say(f"does not take {device_rate} Hz; opened at {self.source_rate} Hz and converted")
        self.queue = BlockQueue(round(QUEUE_S * self.source_rate), max_age_s=max_age_s)

    def _say(self, text: str) -> None:
        if self._notice:
            self._notice(f"microphone {self.name!r} {text}")

    def _open(self, found: InputDevice) -> Any:
        rate, channels = self._choose(found)
        self._resampler = Resampler(rate, self._rate)
        self.name, self.source_rate, self.channels = found.name, rate, channels
        with _portaudio_errors(self._sd, f"microphone {found.name!r}"):
            stream = self._sd.RawInputStream(
                samplerate=rate,
                blocksize=rate * BLOCK_MS // 1000,
                latency=_LATENCY_S,
                device=found.index,
                channels=channels,
                dtype="int16",
                callback=self._callback,
                finished_callback=lambda: self.queue.close(),
            )
        self._opened, self._latency = True, math.inf
        _live.add(self)
        return stream

    def _choose(self, found: InputDevice) -> tuple[int, int]:
        channels = (1, min(2, found.channels), found.channels)
        if self._wanted_channels:
            channels = (min(self._wanted_channels, found.channels), *channels)
        for rate in filter(None, (self._wanted_rate, self._rate, found.rate, 48000, 44100)):
            for n in dict.fromkeys(channels):
                try:
                    with quiet_native():
                        self._sd.check_input_settings(found.index, n, "int16", samplerate=rate)
                except self._sd.PortAudioError as error:
                    if "unavailable" in str(error).lower():
                        break  # busy: opening it will say so
                else:
                    return rate, n
        return found.rate, 1  # let opening it say what is wrong

    def _callback(self, data: Any, samples: int, when: Any, status: Any) -> None:
        now, rate = time.perf_counter(), self.source_rate
        age = when.currentTime - when.inputBufferAdcTime
        if not 0 <= age < 60:  # some systems do not know
            age = 0.0
        jump = 0.0 if self._end is None else now - age - self._end
        lost = jump > _SHORTEST_GAP_S and (jump > _JUMP_S or self._opened or bool(status.input_overflow))
        self._end = now - age + samples / rate
        # Every system has a latency, which is no delay; it may change, but not as fast as a stall lets samples age.
        self._latency = min(age, self._latency + samples / rate / 50)
        self.queue.put(
            bytes(data),
            samples,
            overrun=bool(status.input_overflow),
            missing=round(jump * rate) if lost else 0,
            age_s=age - self._latency,
        )
        self._opened = False

    def _next(self) -> tuple[bytes, int, int]:
        gone: float | None = None  # since when
        while True:
            got, reason = None, f"no audio for {self._timeout_s:.0f} s"
            for _ in range(round(self._timeout_s / _RETRY_S)):  # where the process stood still, one of these is over
                with suppress(TimeoutError):
                    got, reason = self.queue.get(_RETRY_S, at_least=self._wanted), "its stream ended"
                    break
            if got:
                seconds = got[2] / self.source_rate
                if gone is not None:
                    self._say(f"is back: {seconds:.1f} s lost; detection starts anew")
                elif seconds:
                    self._gap(seconds)
                return got
            if gone is None:
                if not self._patience_s:
                    raise AudioError(f"microphone {self.name!r}: {reason}; was it unplugged?")
                gone = time.monotonic()
                self.outages += 1
                self._say(f"is gone ({reason}); waiting until it is back")
            self._worker = threading.Thread(target=self._reopen, name="microphone", daemon=True)
            self._worker.start()
            while self._worker.is_alive():  # PortAudio may wait for a sound server, which must not keep Ctrl-C waiting
                if time.monotonic() - gone > self._patience_s:
                    raise AudioError(f"microphone {self.name!r}: {reason}, and not back in {self._patience_s:g} s")
                self._worker.join(_RETRY_S)

    def _gap(self, seconds: float) -> None:
        """Say that something is missing, but not all the time."""
        self._untold_s += seconds
        if time.monotonic() - self._told > _NOTICE_S:
            self._say(f"lost {self._untold_s:.1f} s: the machine was too slow, or stood still; detection starts anew")
            self._told, self._untold_s = time.monotonic(), 0.0

    def _reopen(self) -> None:
        """Close the stream, and open the device again as soon as it is there."""
        self._close()
        while not self._leaving.wait(_RETRY_S):
            with suppress(AudioError):
                if not _live:
                    with _portaudio_errors(self._sd, "audio devices"):
                        if self._sd._initialized:
                            self._sd._terminate()
                        self._sd._initialize()
                self._stream = self._open(_same_device(self.name))
                self.queue.reopen()
                with _portaudio_errors(self._sd, f"microphone {self.name!r}"):
                    self._stream.start()
                return
            self._close()

    def _close(self) -> None:
        stream, self._stream = self._stream, None
        if stream:
            with quiet_native():
                stream.close(ignore_errors=True)
        _live.discard(self)

    def __enter__(self) -> Microphone:
        with _portaudio_errors(self._sd, f"microphone {self.name!r}"):
            self._stream.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._leaving.set()
        if not (self._worker and self._worker.is_alive()):
            self._worker = threading.Thread(target=self._close, name="microphone", daemon=True)
            self._worker.start()
        self._worker.join(_CLOSE_S)


def _same_device(name: str) -> InputDevice:
    """The device of that name; ALSA's card number in it may have changed."""

    def bare(text: str) -> str:
        return re.sub(r" \(hw:\d+,\d+\)$", "", text)

    devices = sorted(input_devices(), key=lambda device: device.name != name)
    for device in devices:
        if bare(device.name) == bare(name):
            return device
    raise AudioError(f"no input device {name!r}")
