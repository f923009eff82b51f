"""TensorFlow Lite Micro's microfrontend in NumPy, bit for bit.

It has two halves. :class:`FixedBands` gives the magnitude of each mel band in a frame, which depends on the frame
alone. :class:`Adaptation` makes levels of them. It subtracts an estimate of the noise and evens out loudness. What it
does to a frame depends on the frames before, so it has a state. In state zero the audio before was digital silence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from kws_edge.config import FrontendConfig
from kws_edge.features import fixed_tables as tables
from kws_edge.features.fixed_fft import FixedFft
from kws_edge.features.mel import used_bins

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Adaptation", "FixedBands"]

BATCH = 64
"""Most frames that are computed at a time. More would not stay in the processor's cache."""

SMOOTHING = (409, 983)
"""Share of a frame in the noise estimate of even and of odd bands, in Q14: 0.025 and 0.06."""
SHARE_BITS, ESTIMATE_BITS = 14, 10
"""Fractional bits of shares, and of the noise estimate."""
LEAST_SHARE = 819
"""Share of a band that noise reduction leaves at least, in Q14: 0.05."""
SNR_BITS, COMPRESSED_BITS, LOG_BITS = 12, 6, 6
"""Fractional bits of the signal-to-noise ratio, of what PCAN makes of it, and of the logarithm."""
_LN2 = 45426  # in Q16


class FixedBands:
    """Magnitudes of mel bands: window, FFT, mel filters and square root, in 16-bit fixed point.

    Parameters
    ----------
    config : FrontendConfig

    Raises
    ------
    ConfigError
        If no bin of the transform falls into any mel band.
    """

    def __init__(self, config: FrontendConfig) -> None:
        self.columns = config.n_mels
        self._n_fft, self._frame = config.n_fft, config.frame_length
        self._window = tables.window(config)[:, np.newaxis]
        self._fft = FixedFft(config.n_fft)
        weights = tables.bank(config)
        self._used = used_bins(weights, config)
        self._weights = weights[self._used]

    def rows(self, frames: NDArray[np.int16], *, lane: int = 0) -> NDArray[np.float32]:
        """Magnitudes of the bands in each frame. They are whole numbers below 2**24.

        Parameters
        ----------
        frames : numpy.ndarray, shape (n, frame_length), int16
        lane : int
            Has no effect here.

        Returns
        -------
        numpy.ndarray, shape (n, n_mels), float32
        """
        parts = [self._some(frames[at : at + BATCH]) for at in range(0, max(1, len(frames)), BATCH)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _some(self, frames: NDArray[np.int16]) -> NDArray[np.float32]:
        windowed = frames.T * self._window
        windowed >>= tables.WINDOW_BITS
        narrow = windowed.astype(np.int16)
        peak = np.abs(narrow).max(axis=0, initial=0)  # of -32768 this is -32768, as in C
        shift = (15 - np.frexp(peak.astype(np.float32))[1]).astype(np.int16)  # the frame fills 16 bits
        padded = np.zeros((self._n_fft, len(frames)), np.int32)
        padded[: self._frame] = narrow << shift
        bins = self._fft(padded)[:, self._used]
        bins *= bins
        energy = (bins[0] + bins[1]).T.astype(np.float64)
        bands = np.rint(np.sqrt(energy @ self._weights))
        # Of a sum of 32 bits the root has 16 bits.
        np.copyto(bands, 65535, where=bands == 65536)
        levelled: NDArray[np.float32] = (bands.astype(np.int32) >> shift[:, np.newaxis]).astype(np.float32)
        return levelled


class Adaptation:
    """Noise reduction, PCAN gain control and logarithm: levels of the bands' magnitudes.

    Parameters
    ----------
    config : FrontendConfig
    """

    def __init__(self, config: FrontendConfig) -> None:
        c = config
        shift = c.n_fft.bit_length() - 1 - tables.FILTER_BITS // 2  # what FFT and filters have divided by, in bits
        self._share = np.where(np.arange(c.n_mels) % 2, SMOOTHING[1], SMOOTHING[0]).astype(np.int64)
        self._kept = (1 << SHARE_BITS) - self._share
        self._gains = tables.gains(ESTIMATE_BITS - shift)
        self._snr_shift = tables.GAIN_BITS - shift - SNR_BITS
        self._up, self._down = max(0, shift), max(0, -shift)
        self._logarithms = tables.logarithms()
        self._scale = np.float32(c.log_gain / (1 << LOG_BITS))
        self._offset = np.float32(c.level_offset)
        self._clip = None if c.level_min is None and c.level_max is None else (c.level_min, c.level_max)

    def state(self, *shape: int) -> NDArray[np.int64]:
        """A noise estimate of silence, for streams of this shape."""
        return np.zeros((*shape, len(self._share)), np.int64)

    def running(self) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
        """A function that takes the bands of a stream in parts, with a noise estimate of its own."""
        state = self.state()
        return lambda bands: self(bands, state)

    def __call__(self, bands: NDArray[Any], state: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """Levels of frames that follow one another.

        Parameters
        ----------
        bands : numpy.ndarray, shape (..., frames, n_mels), of any number type
            Numbers from 0 to 2**21. They are rounded.
        state : numpy.ndarray, shape (..., n_mels), int64, optional
            Noise estimate before the frames, from :meth:`state`. It becomes that after the frames. By default the
            frames follow silence.

        Returns
        -------
        numpy.ndarray, of the shape of `bands`, float32
        """
        values = self.values(np.rint(bands).astype(np.int64), self.state(*bands.shape[:-2]) if state is None else state)
        levels = values.astype(np.float32)
        levels *= self._scale
        if self._offset:
            levels += self._offset
        if self._clip is not None:
            np.clip(levels, *self._clip, out=levels)
        return levels

    def values(self, bands: NDArray[np.int64], state: NDArray[np.int64]) -> NDArray[np.int64]:
        """64 times the natural logarithm: the output of TensorFlow Lite Micro's C code, as whole numbers."""
        noise = self._noise(bands, state)
        raised = bands << ESTIMATE_BITS
        left = (raised - np.minimum(noise, raised)) >> ESTIMATE_BITS
        signal = np.maximum(left, (bands * LEAST_SHARE) >> SHARE_BITS)
        return self._logarithm(self._compressed(signal, noise))

    def _noise(self, bands: NDArray[np.int64], state: NDArray[np.int64]) -> NDArray[np.int64]:
        """The noise estimate at each frame, with ten fractional bits."""
        noise = bands * (self._share << ESTIMATE_BITS)
        for t in range(noise.shape[-2]):
            state *= self._kept
            state += noise[..., t, :]
            state >>= SHARE_BITS
            noise[..., t, :] = state
        return noise

    def _compressed(self, signal: NDArray[np.int64], noise: NDArray[np.int64]) -> NDArray[np.int64]:
        """PCAN: `signal` over a power of the noise, and of that about the square root of one more than the square."""
        mantissa, bits = np.frexp(noise.astype(np.float64))
        at = np.maximum((mantissa * 2048).astype(np.int64) - 1024, 0)  # place between two powers of two, in Q10
        first, slope, curve = (self._gains[:, i].take(bits) for i in range(3))
        gain = (((curve * at >> 5) + (slope << 5)) * at + (1 << 14) >> 15) + first
        snr = signal * gain >> self._snr_shift
        squared = snr * snr >> 2 + 2 * SNR_BITS - COMPRESSED_BITS
        straight = (snr >> SNR_BITS - COMPRESSED_BITS) - (1 << COMPRESSED_BITS)
        return np.where(snr < 2 << SNR_BITS, squared, straight)

    def _logarithm(self, x: NDArray[np.int64]) -> NDArray[np.int64]:
        x = (x << self._up) >> self._down
        mantissa, bits = np.frexp(x.astype(np.float64))
        part = np.maximum((mantissa * 131072).astype(np.int64) - 65536, 0)  # place between two powers of two, in Q16
        segment = part >> 9
        low, high = self._logarithms.take(segment), self._logarithms.take(segment + 1)
        part += low + ((high - low) * (part & 511) >> 16)
        log2 = (bits.astype(np.int64) - 1 << 16) + part
        natural = _LN2 * log2 + (1 << 15) >> 16
        return cast("NDArray[np.int64]", np.where(x > 1, (natural << LOG_BITS) + (1 << 15) >> 16, 0))
