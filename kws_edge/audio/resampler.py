"""Conversion of channels and of sample rates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kws_edge.audio_limits import check_rate
from kws_edge.errors import AudioError
from kws_edge.features.frontend import to_int16

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Resampler", "mono_pcm"]


class Resampler:
    """Streaming conversion of the sample rate, with anti-aliasing.

    Parameters
    ----------
    source_rate, sample_rate : int
        Rates of input and output in Hz. If they are equal, samples pass unchanged.

    Raises
    ------
    AudioError
        If a rate is out of range, or if the rates differ and soxr is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from kws_edge import Resampler
    >>> resampler = Resampler(48000, 16000)
    >>> first = resampler.process(np.zeros(24000, np.int16))
    >>> second = resampler.process(np.zeros(24000, np.int16), last=True)
    >>> len(first) + len(second)
    16000
    """

    def __init__(self, source_rate: int, sample_rate: int) -> None:
        check_rate(source_rate)
        check_rate(sample_rate)
        self._stream: Any = None
        if source_rate != sample_rate:
            try:
                import soxr
            except ImportError:
                raise AudioError(
                    f"audio at {source_rate} Hz needs converting to {sample_rate} Hz: pip install soxr, or give "
                    f"{sample_rate} Hz"
                ) from None
            self._stream = soxr.ResampleStream(source_rate, sample_rate, 1, dtype="float32")

    def process(self, samples: NDArray[Any], *, last: bool = False) -> NDArray[np.int16]:
        """Convert a block; `last` flushes the filter.

        Parameters
        ----------
        samples : numpy.ndarray, shape (n,), int16 or floating in [-1, 1)

        Returns
        -------
        numpy.ndarray, shape (k,), int16

        Raises
        ------
        AudioError
            If the samples are not mono, have another type, are far beyond full scale, or are not numbers.
        """
        if self._stream is None:
            return to_int16(samples)
        if samples.dtype != np.float32 or samples.ndim != 1:
            samples = to_int16(samples).astype(np.float32) / 32768
        return to_int16(self._stream.resample_chunk(samples, last=last))


def mono_pcm(frames: NDArray[Any]) -> NDArray[Any]:
    """Mix int16 or float32 frames to mono. One channel passes unchanged; several give float32 in [-1, 1)."""
    if frames.shape[1] == 1:
        return frames[:, 0]
    if frames.dtype == np.int16:
        frames = frames.astype(np.float32) / 32768
    mixed: NDArray[np.float32] = frames.mean(axis=1, dtype=np.float32)
    return mixed
