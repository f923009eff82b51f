"""What every source of samples shares: its protocol, the conversion of rates and of channels."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import numpy as np

from kws_edge.diagnostics.latency import AUDIO, OFF, RESAMPLE, Stopwatch
from kws_edge.errors import AudioError
from kws_edge.features.frontend import to_int16

__all__ = ["MAX_CHANNELS", "MAX_RATE", "MIN_RATE", "Decoded", "Reader", "Resampler", "Source"]

_Decoded = TypeVar("_Decoded", bound="Decoded")
BLOCK_MS = 20
MIN_RATE, MAX_RATE = 1000, 768_000
"""Sample rates that audio may have, Hz: what is outside is a broken header, and would take gigabytes to convert."""
MAX_CHANNELS = 64
"""Channels that audio may have."""
_FULL_SCALE = 8.0
"""Float samples beyond this are no audio at full scale 1, however hot, but integers that nobody divided."""


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


class Reader(Protocol):
    """The samples of a file or of a stream, as they are."""

    source_rate: int
    channels: int
    seconds: float | None
    """Length that the header gives, if it does."""
    remark: str | None
    """What is wrong with the audio although it can be heard; known at its end."""
    close: Callable[[], object]

    def frames(self, n: int) -> Iterator[np.ndarray]:
        """Blocks of shape (k, channels), k <= `n`: int16, or float32 in [-1, 1)."""
        ...


class Decoded:
    """A source that a :class:`Reader` gives, which it closes.

    Parameters
    ----------
    name : str
        What errors call it.
    reader : Reader
    rate : int
        Hz of the blocks.
    block : int
        Samples to read at a time.
    """

    lost = 0
    stopwatch: Stopwatch = OFF
    _nothing = "holds no samples"

    def __init__(self, name: str, reader: Reader, rate: int, block: int) -> None:
        self.name, self.rate, self._reader, self._block = name, rate, reader, block
        self.source_rate, self.channels, self.seconds = reader.source_rate, reader.channels, reader.seconds
        try:
            with self._named():
                check_format(self.source_rate, self.channels)
                self._resampler = Resampler(self.source_rate, rate)
        except AudioError:
            self.close()
            raise

    @property
    def remark(self) -> str | None:
        """What is wrong with the audio although it could be heard, such as an end that is missing; known at its end."""
        return self._reader.remark

    def __enter__(self: _Decoded) -> _Decoded:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End reading, and what decodes."""
        self._reader.close()

    def frames(self) -> Iterator[np.ndarray]:
        """All channels as they are: blocks of shape (n, channels), int16, or float32 in [-1, 1), at `source_rate`.

        Raises
        ------
        AudioError
            If decoding stops, or there is no sample.
        """
        with self._named():
            yield from self._some(self._reader.frames(self._block))

    def __iter__(self) -> Iterator[np.ndarray]:
        with self._named():
            yield from self._some(self._converted())

    def _converted(self) -> Iterator[np.ndarray]:
        convert = self._resampler.process
        for frames in self._reader.frames(self._block):
            watch = self.stopwatch  # which may change between two blocks
            watch.start()
            pcm = mono_pcm(frames)
            watch.lap(AUDIO)
            samples = convert(pcm)
            watch.lap(RESAMPLE)
            yield samples
        yield convert(np.empty(0, np.int16), last=True)

    def _some(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Those of the blocks that hold samples; at least one does."""
        empty = True
        for block in blocks:
            if len(block):
                empty = False
                yield block
        if empty:
            raise AudioError(self._nothing)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Errors name the source."""
        try:
            yield
        except AudioError as error:
            raise AudioError(f"{self.name}: {error}") from None
        except OSError as error:
            raise AudioError(f"{self.name}: cannot be read ({error.strerror or error})") from None


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


def check_format(rate: int, channels: int) -> None:
    """Refuse a sample rate or a number of channels that no audio has.

    Raises
    ------
    AudioError
        If one is out of range.
    """
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioError(f"a sample rate of {rate} Hz; audio has {MIN_RATE} to {MAX_RATE} Hz")
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(f"{channels} channels; audio has 1 to {MAX_CHANNELS}")


def check_scale(samples: np.ndarray) -> None:
    """Refuse float samples that are not at full scale 1.

    Raises
    ------
    AudioError
        If they are far beyond it, or are no numbers.
    """
    peak = np.abs(samples).max()
    if not np.isfinite(peak):
        raise AudioError("the audio holds NaN or infinite samples")
    if peak > _FULL_SCALE:
        raise AudioError(f"float samples reach {peak:g}, but full scale is 1; divide them by 32768 if they were int16")


def pcm_frames(data: bytes, channels: int) -> np.ndarray:
    """Interleaved 16-bit PCM, shape (n, channels), int16."""
    return np.frombuffer(data, "<i2").reshape(-1, channels)


def mono_pcm(frames: np.ndarray) -> np.ndarray:
    """Frames of int16 or float32 as mono samples: of one channel as they are; of several, float32 in [-1, 1)."""
    if frames.shape[1] == 1:
        return frames[:, 0]
    if frames.dtype == np.int16:
        frames = frames.astype(np.float32) / 32768
    return frames.mean(axis=1, dtype=np.float32)
