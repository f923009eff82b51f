"""Where samples come from: files, raw PCM on a pipe, the microphone; all give mono int16 blocks at a given rate."""

from __future__ import annotations

import ctypes
import math
import os
import re
import struct
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np

from kws_edge.errors import AudioError
from kws_edge.frontend import to_int16
from kws_edge.native import quiet_native
from kws_edge.timing import AUDIO, OFF, RESAMPLE, Stopwatch

__all__ = ["AudioFile", "BlockQueue", "Microphone", "PcmStream", "Playback", "Resampler", "Source", "input_devices"]

BLOCK_MS = 20
_QUEUE_S = 5.0
_MAX_AGE_S = 2.0
_JUMP_S = 0.25
_SHORTEST_GAP_S = 0.03
_RETRY_S = 0.5
_CLOSE_S = 3.0
_NOTICE_S = 5.0
_WANTED_S = 0.2
# What the audio system may keep back: with its least, 10 to 40 ms, it wakes up so often that it costs twice the CPU.
_LATENCY_S = 0.08
_FILE_BLOCK = 1 << 14


class Source(Protocol):
    """An iterable of mono int16 blocks, closed by leaving its ``with`` block.

    Live ones call `stopwatch` when a block arrives and after each of their stages.
    """

    name: str
    lost: int
    """Samples, at the blocks' rate, that are missing from the stream before the end of the block that came last."""

    def __enter__(self) -> Source: ...
    def __exit__(self, *error: object) -> None: ...
    def __iter__(self) -> Iterator[np.ndarray]: ...


class Resampler:
    """Streaming conversion of the sample rate, with anti-aliasing.

    Parameters
    ----------
    source_rate, rate : int
        Hz. Equal rates pass samples through unchanged.

    Raises
    ------
    AudioError
        If the rates differ and soxr is not installed.
    """

    def __init__(self, source_rate: int, rate: int) -> None:
        self._stream = None
        if source_rate != rate:
            try:
                import soxr
            except ImportError:
                raise AudioError(
                    f"audio at {source_rate} Hz needs converting to {rate} Hz: pip install soxr, or give {rate} Hz"
                ) from None
            self._stream = soxr.ResampleStream(source_rate, rate, 1, dtype="float32")

    def process(self, samples: np.ndarray, *, last: bool = False) -> np.ndarray:
        """Convert a block; `last` flushes what the filter still holds.

        Parameters
        ----------
        samples : numpy.ndarray, shape (n,), int16, or float32 in [-1, 1)

        Returns
        -------
        numpy.ndarray, shape (k,), int16
        """
        if self._stream is None:
            return to_int16(samples)
        if samples.dtype == np.int16:
            samples = samples.astype(np.float32) / 32768
        return to_int16(self._stream.resample_chunk(samples, last=last))


def _mono(frames: np.ndarray) -> np.ndarray:
    return frames[:, 0] if frames.shape[1] == 1 else frames.mean(axis=1, dtype=np.float32)


def _pcm(data: bytes, channels: int) -> np.ndarray:
    """Interleaved 16-bit PCM, shape (n, channels), int16."""
    return np.frombuffer(data, "<i2").reshape(-1, channels)


def _mono_pcm(frames: np.ndarray) -> np.ndarray:
    """Frames of int16 as mono samples: int16 as they are, or, of several channels, float32 in [-1, 1)."""
    return _mono(frames if frames.shape[1] == 1 else frames.astype(np.float32) / 32768)


class AudioFile:
    """A file of any format, rate and channel count that libsndfile reads.

    Parameters
    ----------
    path : str or path
    rate : int
        Hz of the blocks.

    Raises
    ------
    AudioError
        If the file is missing, a folder, empty, or cannot be decoded.
    """

    lost = 0

    def __init__(self, path: str | os.PathLike[str], *, rate: int) -> None:
        self.name = path = os.fspath(path)
        if os.path.isdir(path):
            raise AudioError(f"{path}: is a folder, not an audio file")
        if not os.path.exists(path):
            raise AudioError(f"{path}: no such file")
        soundfile = _soundfile()
        try:
            if not os.path.getsize(path):
                raise AudioError(f"{path}: is empty")
            self._file = soundfile.SoundFile(path)
        except OSError as error:
            raise AudioError(f"{path}: cannot be read ({error.strerror or error})") from None
        except soundfile.SoundFileError as error:
            raise AudioError(f"{path}: cannot be decoded ({_reason(error)}); is it an audio file?") from None
        self.rate = rate
        self.source_rate, self.channels = self._file.samplerate, self._file.channels
        try:
            self._resampler = Resampler(self.source_rate, rate)
        except AudioError as error:
            self._file.close()
            raise AudioError(f"{path}: {error}") from None

    def __enter__(self) -> AudioFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def frames(self) -> Iterator[np.ndarray]:
        """All channels as they are: blocks of shape (n, channels), float32 in [-1, 1), at `source_rate`; the last one
        is shorter than the others, and may be empty.

        Raises
        ------
        AudioError
            If decoding stops, or there is no sample.
        """
        heard = 0
        while True:
            try:
                frames = self._file.read(_FILE_BLOCK, dtype="float32", always_2d=True)
            except _soundfile().SoundFileError as error:
                raise AudioError(f"{self.name}: decoding stopped after {heard} samples ({_reason(error)})") from None
            heard += len(frames)
            yield frames
            if len(frames) < _FILE_BLOCK:
                break
        if not heard:
            raise AudioError(f"{self.name}: holds no samples")

    def __iter__(self) -> Iterator[np.ndarray]:
        for frames in self.frames():
            try:
                samples = self._resampler.process(_mono(frames), last=len(frames) < _FILE_BLOCK)
            except AudioError as error:
                raise AudioError(f"{self.name}: {error}") from None
            if len(samples):
                yield samples

    def read(self) -> np.ndarray:
        """All samples, shape (n,), int16."""
        return np.concatenate(list(self))


def _soundfile():
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise AudioError(f"audio files need libsndfile ({error}): sudo apt install libsndfile1") from None
    return soundfile


def _reason(error: Exception) -> str:
    return getattr(error, "error_string", str(error)).strip().rstrip(".")


class PcmStream:
    """Raw signed 16-bit little-endian PCM from a pipe, or a WAV file of that kind, as ``arecord`` writes by default.

    Parameters
    ----------
    stream : binary file
        Read as data arrives, so that nothing waits for a full buffer.
    rate : int
        Hz of the blocks.
    source_rate, channels : int
        What the pipe carries; a WAV header on it decides instead.
    name : str
        What errors call it.

    Raises
    ------
    AudioError
        If a WAV header announces another sample format.
    """

    lost = 0
    stopwatch: Stopwatch = OFF

    def __init__(
        self, stream: BinaryIO, *, rate: int, source_rate: int | None = None, channels: int = 1, name: str = "-"
    ) -> None:
        self.name, self._stream = name, stream
        self.source_rate, self.channels = source_rate or rate, channels
        head = self._exactly(12)
        self._left: int | None = None
        if head[:4] == b"RIFF" and head[8:] == b"WAVE":
            self._read_header()
            head = b""
        self._rest = head
        self._resampler = Resampler(self.source_rate, rate)

    def __enter__(self) -> PcmStream:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def _some(self, n: int) -> bytes:
        read = getattr(self._stream, "read1", self._stream.read)
        return read(n) or b""

    def _exactly(self, n: int) -> bytes:
        data = b""
        while len(data) < n and (more := self._some(n - len(data))):
            data += more
        return data

    def _read_header(self) -> None:
        while True:
            head = self._exactly(8)
            if len(head) < 8:
                raise AudioError(f"{self.name}: a WAV header without audio")
            kind, size = head[:4], struct.unpack("<I", head[4:])[0]
            if kind == b"data":
                # A recorder that writes into a pipe does not know the length and announces the largest one.
                self._left = size if 0 < size < 0x7FFF0000 else None
                return
            if size > 1 << 20:
                raise AudioError(f"{self.name}: a broken WAV header")
            body = self._exactly(size + size % 2)
            if kind == b"fmt ":
                if len(body) < 16:
                    raise AudioError(f"{self.name}: a broken WAV header")
                code, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", body)
                if code not in (1, 0xFFFE) or bits != 16 or not channels or not rate:
                    raise AudioError(
                        f"{self.name}: WAV of format {code} with {bits} bits; a pipe must carry signed 16-bit PCM "
                        "(arecord -f S16_LE)"
                    )
                self.channels, self.source_rate = channels, rate

    def __iter__(self) -> Iterator[np.ndarray]:
        frame = 2 * self.channels
        size = max(1, self.source_rate * BLOCK_MS // 1000) * frame
        heard = 0
        while True:
            data = self._some(size)
            self.stopwatch.start()
            ended = not data
            if self._left is not None:
                data = data[: self._left]
                self._left -= len(data)
                ended = ended or self._left <= 0
            data = self._rest + data
            whole = len(data) - len(data) % frame
            self._rest = data[whole:]
            heard += whole
            pcm = _mono_pcm(_pcm(data[:whole], self.channels))
            self.stopwatch.lap(AUDIO)
            samples = self._resampler.process(pcm, last=ended)
            self.stopwatch.lap(RESAMPLE)
            if len(samples):
                yield samples
            if ended:
                break
        if not heard:
            raise AudioError(f"{self.name}: no audio arrived on the pipe")


class _Block(NamedTuple):
    data: bytes
    samples: int
    missing: int  # samples that are missing before it
    captured: float  # of time.perf_counter
    arrived: float


class BlockQueue:
    """Bounded queue between an audio callback and the reader: nobody waits, and what is too old is dropped and counted.

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

    def put(self, data: bytes, samples: int, *, overrun: bool = False, missing: int = 0, age_s: float = 0.0) -> None:
        """Called by the audio callback.

        Parameters
        ----------
        data : bytes
        samples : int
            How many that is.
        overrun : bool
            Whether the audio system reported lost input.
        missing : int
            Samples that never arrived and belong before these.
        age_s : float
            Seconds since these were captured.
        """
        with self._ready:
            self.samples += samples
            self.overruns += overrun
            now = time.perf_counter()
            self._blocks.append(_Block(data, samples, missing, now - age_s, now))
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


class _Queued:
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
            yield _pcm(data, self.channels)

    def __iter__(self) -> Iterator[np.ndarray]:
        for frames in self.frames():
            pcm = _mono_pcm(frames)
            self.stopwatch.lap(AUDIO)
            samples = self._resampler.process(pcm)
            self.stopwatch.lap(RESAMPLE)
            if len(samples):
                yield samples

    def _next(self) -> tuple[bytes, int, int] | None:
        return self.queue.get(self._timeout_s, at_least=self._wanted)


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
    if isinstance(wanted, int) or str(wanted).isdigit():
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


class Microphone(_Queued):
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
        self.queue = BlockQueue(round(_QUEUE_S * self.source_rate), max_age_s=max_age_s)

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


class Playback(_Queued):
    """A recording that arrives as a microphone's audio does: in small blocks, at its own pace, through a bounded queue.

    Parameters
    ----------
    path : str or path
    rate : int
        Hz of the blocks.
    real_time : bool
        False delivers the blocks as fast as they are taken.
    """

    def __init__(self, path: str | os.PathLike[str], *, rate: int, real_time: bool = True) -> None:
        with AudioFile(path, rate=rate) as file:
            self._samples = file.read()
        self.name, self.source_rate, self.channels, self._rate = file.name, rate, 1, rate
        self._real_time = real_time
        self._resampler = Resampler(rate, rate)
        self.queue = BlockQueue(round(_QUEUE_S * rate) if real_time else len(self._samples))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play, name="playback", daemon=True)

    def _play(self) -> None:
        block = self.source_rate * BLOCK_MS // 1000
        start = time.monotonic()
        for at in range(0, len(self._samples), block):
            data = self._samples[at : at + block]
            if self._real_time:
                due = start + (at + len(data)) / self.source_rate
                if self._stop.wait(max(0.0, due - time.monotonic())):
                    break
            self.queue.put(data.tobytes(), len(data))
        self.queue.close()

    def __enter__(self) -> Playback:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
