"""Where samples come from: files, raw PCM on a pipe, the microphone; all give mono int16 blocks at a given rate."""

from __future__ import annotations

import contextlib
import ctypes
import math
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from kws_edge.errors import AudioError
from kws_edge.frontend import to_int16
from kws_edge.native import quiet_native
from kws_edge.timing import AUDIO, OFF, RESAMPLE, Stopwatch

__all__ = ["AudioFile", "BlockQueue", "Microphone", "PcmStream", "Playback", "Resampler", "Source", "input_devices"]

BLOCK_MS = 20
_QUEUE_S = 5.0
_WANTED_S = 0.2
# What the audio system may keep back: with its least, 10 to 40 ms, it wakes up so often that it costs twice the CPU.
_LATENCY_S = 0.08
_FILE_BLOCK = 1 << 14


class Source(Protocol):
    """An iterable of mono int16 blocks, closed by leaving its ``with`` block.

    Live ones call `stopwatch` when a block arrives and after each of their stages.
    """

    name: str

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


def _mono_pcm(data: bytes, channels: int) -> np.ndarray:
    """Interleaved 16-bit PCM as mono samples: int16 as they are, or, of several channels, float32 in [-1, 1)."""
    samples = np.frombuffer(data, "<i2")
    return samples if channels == 1 else _mono(samples.reshape(-1, channels).astype(np.float32) / 32768)


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

    def __init__(self, path: str | Path, *, rate: int) -> None:
        self.name = str(path)
        path = Path(path)
        if path.is_dir():
            raise AudioError(f"{path}: is a folder, not an audio file")
        if not path.exists():
            raise AudioError(f"{path}: no such file")
        soundfile = _soundfile()
        try:
            if not path.stat().st_size:
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

    def __iter__(self) -> Iterator[np.ndarray]:
        heard = 0
        while True:
            try:
                frames = self._file.read(_FILE_BLOCK, dtype="float32", always_2d=True)
            except _soundfile().SoundFileError as error:
                raise AudioError(f"{self.name}: decoding stopped after {heard} samples ({_reason(error)})") from None
            heard += len(frames)
            try:
                samples = self._resampler.process(_mono(frames), last=len(frames) < _FILE_BLOCK)
            except AudioError as error:
                raise AudioError(f"{self.name}: {error}") from None
            if len(samples):
                yield samples
            if len(frames) < _FILE_BLOCK:
                break
        if not heard:
            raise AudioError(f"{self.name}: holds no samples")

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
            pcm = _mono_pcm(data[:whole], self.channels)
            self.stopwatch.lap(AUDIO)
            samples = self._resampler.process(pcm, last=ended)
            self.stopwatch.lap(RESAMPLE)
            if len(samples):
                yield samples
            if ended:
                break
        if not heard:
            raise AudioError(f"{self.name}: no audio arrived on the pipe")


class BlockQueue:
    """Bounded queue between an audio callback and the reader: what does not fit is counted, and nobody waits.

    Parameters
    ----------
    capacity : int
        Samples that may wait.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._blocks: deque[tuple[bytes, int, float]] = deque()
        self._ready = threading.Condition()
        self._waiting = 0
        self._wanted = 1
        self._closed = False
        self.samples = 0
        """Samples that arrived, dropped ones included."""
        self.dropped = 0
        """Samples that found the queue full."""
        self.overruns = 0
        """Times that the audio system reported lost input."""
        self.arrived = 0.0
        """When the samples that the last :meth:`get` waited for were there, of :func:`time.perf_counter`."""

    def put(self, data: bytes, samples: int, *, overrun: bool = False) -> None:
        """Called by the audio callback."""
        with self._ready:
            self.samples += samples
            self.overruns += overrun
            if self._waiting + samples > self._capacity:
                self.dropped += samples
                self._wanted = 0  # more will not come before the reader does
                self._ready.notify()
                return
            self._blocks.append((data, samples, time.perf_counter()))
            self._waiting += samples
            if self._waiting >= self._wanted:
                self._ready.notify()

    def close(self) -> None:
        """No more blocks will come."""
        with self._ready:
            self._closed = True
            self._ready.notify()

    def _is_enough(self) -> bool:
        return self._closed or (bool(self._blocks) and self._waiting >= self._wanted)

    def get(self, timeout: float, *, at_least: int = 1) -> tuple[bytes, int] | None:
        """Everything that waits, with its number of samples; None once closed and empty.

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
            for _, samples, arrived in self._blocks:
                self.arrived = arrived
                at_least -= samples
                if at_least <= 0:
                    break
            data, samples = b"".join([block for block, _, _ in self._blocks]), self._waiting
            self._blocks.clear()
            self._waiting = 0
            return data, samples


class _Queued:
    """A source whose blocks arrive by a :class:`BlockQueue` as interleaved int16."""

    queue: BlockQueue
    channels: int
    name: str
    source_rate: int
    stopwatch: Stopwatch = OFF
    _resampler: Resampler
    _timeout_s = 3.0
    _wanted = 1

    def want(self, seconds: float) -> None:
        """The reader has no use for its next block before it is this long: waking it for less is a waste."""
        self._wanted = max(1, math.ceil(min(seconds, _WANTED_S) * self.source_rate - 1e-6))  # not one more by rounding

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            try:
                got = self.queue.get(self._timeout_s, at_least=self._wanted)
            except TimeoutError:
                raise AudioError(
                    f"{self.name}: no audio for {self._timeout_s:.0f} s; was the microphone unplugged?"
                ) from None
            if got is None:
                return
            self.stopwatch.start(self.queue.arrived)
            pcm = _mono_pcm(got[0], self.channels)
            self.stopwatch.lap(AUDIO)
            samples = self._resampler.process(pcm)
            self.stopwatch.lap(RESAMPLE)
            if len(samples):
                yield samples


def _forget_encoders() -> None:
    """Take ALSA's AC-3 encoder out of the process's configuration.

    PortAudio opens every device of the configuration to see whether it can record. This one cannot, but where
    libasound2-plugins is installed opening it loads FFmpeg: 14 MB, and a tenth of a second.
    """
    with contextlib.suppress(OSError, AttributeError, ValueError):  # no ALSA: nothing to forget
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


@contextlib.contextmanager
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


class Microphone(_Queued):
    """Live input through PortAudio.

    Opened at `rate` if the device takes it, or else at the device's own rate, and converted.

    Parameters
    ----------
    device : str or int, optional
        Number, or part of the name; the default device if None.
    rate : int
        Hz of the blocks.
    device_rate : int, optional
        Rate to open the device at.

    Attributes
    ----------
    queue : BlockQueue
        With the counts of dropped samples and overruns.

    Raises
    ------
    AudioError
        If there is no such device, it is busy, or it takes none of these rates.
    """

    def __init__(
        self, device: str | int | None = None, *, rate: int, device_rate: int | None = None, queue_s: float = _QUEUE_S
    ) -> None:
        sd = _sounddevice()
        found = find_device(device)
        self.name = found.name
        self._sd = sd
        self.source_rate, self.channels = self._choose(found, rate, device_rate)
        self._resampler = Resampler(self.source_rate, rate)
        self.queue = BlockQueue(round(queue_s * self.source_rate))
        with _portaudio_errors(sd, f"microphone {found.name!r}"):
            self._stream = sd.RawInputStream(
                samplerate=self.source_rate,
                blocksize=self.source_rate * BLOCK_MS // 1000,
                latency=_LATENCY_S,
                device=found.index,
                channels=self.channels,
                dtype="int16",
                callback=self._callback,
                finished_callback=self.queue.close,
            )

    def _choose(self, found: InputDevice, rate: int, device_rate: int | None) -> tuple[int, int]:
        rates = [device_rate] if device_rate else [rate, found.rate]
        for candidate in rates:
            for channels in dict.fromkeys((1, min(2, found.channels), found.channels)):
                try:
                    with quiet_native():
                        self._sd.check_input_settings(found.index, channels, "int16", samplerate=candidate)
                except self._sd.PortAudioError as error:
                    if "unavailable" in str(error).lower():
                        break  # busy: opening it will say so
                else:
                    return candidate, channels
        if device_rate:
            raise AudioError(f"microphone {found.name!r} does not take {device_rate} Hz; its own rate is {found.rate}")
        return found.rate, 1  # let opening it say what is wrong

    def _callback(self, data: Any, samples: int, when: Any, status: Any) -> None:
        self.queue.put(bytes(data), samples, overrun=bool(status.input_overflow))

    def __iter__(self) -> Iterator[np.ndarray]:
        yield from super().__iter__()
        raise AudioError(f"microphone {self.name!r}: the stream ended by itself; was the microphone unplugged?")

    def __enter__(self) -> Microphone:
        with _portaudio_errors(self._sd, f"microphone {self.name!r}"):
            self._stream.start()
        return self

    def __exit__(self, *error: object) -> None:
        with _portaudio_errors(self._sd, f"microphone {self.name!r}"):
            self._stream.close()


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

    def __init__(self, path: str | Path, *, rate: int, real_time: bool = True) -> None:
        with AudioFile(path, rate=rate) as file:
            self._samples = file.read()
        self.name, self.source_rate, self.channels = str(path), rate, 1
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
