"""What every source of samples shares: its protocol, the conversion of rates and of channels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from kws_edge.errors import AudioError
from kws_edge.frontend import to_int16

__all__ = ["MAX_CHANNELS", "MAX_RATE", "MIN_RATE", "Resampler", "Source"]

BLOCK_MS = 20
MIN_RATE, MAX_RATE = 1000, 768_000
"""Sample rates that audio may have, Hz: what is outside is a broken header, and would take gigabytes to convert."""
MAX_CHANNELS = 64
"""Channels that audio may have."""


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


def mono(frames: np.ndarray) -> np.ndarray:
    return frames[:, 0] if frames.shape[1] == 1 else frames.mean(axis=1, dtype=np.float32)


def pcm_frames(data: bytes, channels: int) -> np.ndarray:
    """Interleaved 16-bit PCM, shape (n, channels), int16."""
    return np.frombuffer(data, "<i2").reshape(-1, channels)


def mono_pcm(frames: np.ndarray) -> np.ndarray:
    """Frames of int16 as mono samples: int16 as they are, or, of several channels, float32 in [-1, 1)."""
    return mono(frames if frames.shape[1] == 1 else frames.astype(np.float32) / 32768)
