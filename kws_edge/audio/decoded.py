"""Sources whose samples are decoded from the bytes of a file or of a stream."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from kws_edge.audio.resampler import Resampler, mono_pcm
from kws_edge.audio.source import Source
from kws_edge.audio_limits import check_format
from kws_edge.diagnostics.latency import AUDIO, RESAMPLE
from kws_edge.errors import AudioError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DecodedSource", "Reader"]

_CLOSED = "is closed"


class Reader(Protocol):
    """Reads the samples of a file or of a stream, without conversion."""

    source_rate: int
    channels: int
    seconds: float | None
    """Length in seconds, if the header gives it."""
    remark: str | None
    """A defect of audio that can be heard all the same. It is known at the end of the audio."""

    def frames(self, n: int) -> Iterator[NDArray[Any]]:
        """Yield blocks of shape (k, channels), k <= `n`: int16, or float32 in [-1, 1)."""
        ...

    def close(self) -> object:
        """Close the file or stream. This is called once."""


class DecodedSource(Source):
    """A source that reads from a :class:`Reader`, and closes it.

    Parameters
    ----------
    name : str
        Name of the source in error messages.
    reader : Reader
    sample_rate : int
        Hz of the blocks.
    block : int
        Samples to read at a time.
    """

    _nothing = "holds no samples"
    _heard = _ended = _closed = False

    def __init__(self, name: str, reader: Reader, sample_rate: int, block: int) -> None:
        self.name, self.sample_rate, self._reader, self._block = name, sample_rate, reader, block
        self.source_rate, self.channels, self.seconds = reader.source_rate, reader.channels, reader.seconds
        self._frames = reader.frames(block)
        try:
            with self._named():
                check_format(self.source_rate, self.channels)
                self._resampler = Resampler(self.source_rate, sample_rate)
        except BaseException:
            self.close()
            raise

    @property
    def remark(self) -> str | None:
        """A defect of audio that could be heard all the same, such as a missing end. It is known at the end."""
        return self._reader.remark

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._reader.close()

    def frames(self) -> Iterator[NDArray[Any]]:
        """Yield all channels unconverted, at `source_rate`: blocks of shape (n, channels), int16 or float32 in [-1, 1).

        Use this in place of :meth:`read`, not beside it.

        Raises
        ------
        AudioError
            If decoding fails, or the audio has no samples.
        """
        with self._named():
            for frames in self._frames:
                if self._closed:
                    raise AudioError(_CLOSED)
                if len(frames):
                    self._heard = True
                    yield frames
            self._check_heard()

    def read(self) -> NDArray[np.int16] | None:
        try:
            return self._read()
        except (AudioError, OSError, ValueError) as error:
            raise self._with_name(error) from None

    def _read(self) -> NDArray[np.int16] | None:
        watch, convert = self.stopwatch, self._resampler.process
        if self._closed and not self._ended:
            raise AudioError(_CLOSED)
        for frames in self._frames:
            watch.start()
            pcm = mono_pcm(frames)
            watch.lap(AUDIO)
            samples = convert(pcm)
            watch.lap(RESAMPLE)
            if len(samples):
                self._heard = True
                return samples
        if not self._ended:
            self._ended = True
            if len(rest := convert(np.empty(0, np.int16), last=True)):
                self._heard = True
                return rest
        self._check_heard()
        return None

    def _check_heard(self) -> None:
        if not self._heard:
            raise AudioError(self._nothing)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Name the source in every error."""
        try:
            yield
        except (AudioError, OSError, ValueError) as error:
            raise self._with_name(error) from None

    def _with_name(self, error: AudioError | OSError | ValueError) -> AudioError:
        if self._closed:
            return AudioError(f"{self.name}: {_CLOSED}")
        if isinstance(error, ValueError):
            raise error
        why = error if isinstance(error, AudioError) else f"cannot be read ({error.strerror or error})"
        return AudioError(f"{self.name}: {why}")
