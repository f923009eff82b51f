"""The front end: int16 audio to log-mel features, for whole clips and for streams.

Both forms run the same arithmetic on the same shapes. NumPy transforms each frame by itself. The matrix product, whose
rounding may depend on its shape and on the row, is computed in groups of :data:`LANES` rows, in which a frame keeps the
row that its index gives it, whether its neighbours are there yet or not. So a stream's features equal the whole clip's
bit for bit, for blocks of any size.
"""

from __future__ import annotations

import numpy as np

from kws_edge.config import FrontendConfig
from kws_edge.errors import AudioError, ConfigError
from kws_edge.mel import mel_matrix, window

__all__ = ["LANES", "Frontend", "StreamingFrontend", "fit_clip", "resize_frames", "resize_positions", "to_int16"]

LANES = 8
"""Rows that are computed together."""


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Samples as int16: integers are taken as they are, floats as full scale [-1, 1), rounded and saturated.

    Parameters
    ----------
    samples : numpy.ndarray, shape (n,), int16 or floating

    Raises
    ------
    AudioError
        If the array is not one-dimensional, of another type, or holds NaN or infinity.
    """
    samples = np.asarray(samples)
    if samples.ndim != 1:
        raise AudioError(f"expected mono samples of shape (n,), got shape {samples.shape}; mix the channels down first")
    if samples.dtype == np.int16:
        return samples
    if not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(f"expected int16 or floating-point samples, got {samples.dtype}")
    if not np.isfinite(samples).all():
        raise AudioError("the audio holds NaN or infinite samples")
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)


def fit_clip(samples: np.ndarray, length: int) -> np.ndarray:
    """`samples` centred in `length` samples: cut on both sides, or padded with zeros (half, rounded down, before)."""
    missing = length - len(samples)
    if missing < 0:
        start = -missing // 2
        return samples[start : start + length]
    return np.pad(samples, (missing // 2, missing - missing // 2))


def resize_positions(n_in: int, n_out: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each of `n_out` frames lies among `n_in`: the two next to it and the fraction of the way between them.

    Returns
    -------
    lower, upper : numpy.ndarray, shape (n_out,), intp
    fraction : numpy.ndarray, shape (n_out,), float32
    """
    scale = np.float32(n_in) / np.float32(n_out)
    position = (np.arange(n_out, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    floor = np.floor(position)
    lower = np.maximum(floor, 0).astype(np.intp)
    upper = np.minimum(np.ceil(position), n_in - 1).astype(np.intp)
    return lower, upper, position - floor


def resize_frames(features: np.ndarray, n_frames: int) -> np.ndarray:
    """Resize along time as ``tf.image.resize(method="bilinear")`` does: half-pixel centres, no anti-aliasing.

    Parameters
    ----------
    features : numpy.ndarray, shape (n, n_mels), float32
    n_frames : int

    Returns
    -------
    numpy.ndarray, shape (n_frames, n_mels), float32
    """
    lower, upper, fraction = resize_positions(len(features), n_frames)
    return features[lower] + (features[upper] - features[lower]) * fraction[:, np.newaxis]


class Frontend:
    """Features of whole clips.

    Windowing and transform are in float64: NumPy's FFT is no slower in it, and bands near silence are not lost in the
    rounding of loud ones. All that follows is float32.

    Parameters
    ----------
    config : FrontendConfig
    """

    def __init__(self, config: FrontendConfig) -> None:
        self.config = config
        self._window = window(config) * np.float64(config.sample_scale)
        matrix = mel_matrix(config)
        used = np.flatnonzero(matrix.any(axis=1))
        if not len(used):
            raise ConfigError(f"no FFT bin falls into any mel band of {config}; raise n_fft or widen the band")
        self._bins = slice(int(used[0]), int(used[-1]) + 1)
        self._matrix = np.ascontiguousarray(matrix[self._bins])

    def frames(self, samples: np.ndarray) -> np.ndarray:
        """Levels of every full frame in `samples`.

        Parameters
        ----------
        samples : numpy.ndarray, shape (n,), int16 or floating in [-1, 1)

        Returns
        -------
        numpy.ndarray, shape (1 + (n - frame_length) // hop_length, n_mels), float32
            No rows if `samples` is shorter than a frame.
        """
        samples = to_int16(samples)
        return self._levels(samples, lane=0)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Model input for one clip: `samples` centred in the clip's length, its levels, resized if configured.

        Returns
        -------
        numpy.ndarray, shape config.feature_shape, float32
        """
        return self.resize(self.frames(fit_clip(to_int16(samples), self.config.clip_samples)))

    def resize(self, levels: np.ndarray) -> np.ndarray:
        """A clip's `n_frames` rows of levels in the shape that the model takes."""
        n = self.config.resize_frames
        return levels if n is None else resize_frames(levels, n)

    def _levels(self, samples: np.ndarray, *, lane: int) -> np.ndarray:
        """Levels of the full frames in int16 `samples`, the first of which belongs into row `lane` of its group."""
        c = self.config
        n = c.frames_in(len(samples))
        if not n:
            return np.empty((0, c.n_mels), np.float32)
        samples = np.ascontiguousarray(samples)
        strides = (c.hop_length * samples.itemsize, samples.itemsize)
        views = np.ndarray((n, c.frame_length), np.int16, samples, 0, strides)  # sliding_window_view takes 60 us
        padded = np.zeros((n, c.n_fft))
        np.multiply(views, self._window, out=padded[:, : c.frame_length])
        bins = np.fft.rfft(padded)[:, self._bins]
        power = np.square(bins.real)
        power += np.square(bins.imag)
        if c.spectrum == "magnitude":
            np.sqrt(power, out=power)
        groups = -(-(lane + n) // LANES)
        spectrum = np.zeros((groups * LANES, power.shape[1]), np.float32)
        spectrum[lane : lane + n] = power
        levels = np.matmul(spectrum.reshape(groups, LANES, -1), self._matrix).reshape(-1, c.n_mels)[lane : lane + n]
        levels += np.float32(c.log_offset)
        np.log(levels, out=levels)
        levels *= np.float32(c.log_gain)
        levels += np.float32(c.level_offset)
        if c.level_min is not None or c.level_max is not None:
            np.clip(levels, c.level_min, c.level_max, out=levels)
        return levels


class StreamingFrontend:
    """Levels of a stream, each frame computed once, as soon as its last sample is there.

    Parameters
    ----------
    config : FrontendConfig
    """

    def __init__(self, config: FrontendConfig) -> None:
        self.config = config
        self._frontend = Frontend(config)
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next sample is the first of a new stream."""
        self._pending = np.empty(0, np.int16)  # samples from the start of the next frame on
        self._skip = 0  # samples still to drop before the next frame starts, when the hop exceeds the frame
        self.n_frames = 0  # frames given out so far

    def silence(self) -> np.ndarray:
        """Levels of a frame of digital silence, shape (n_mels,), float32."""
        return self._frontend.frames(np.zeros(self.config.frame_length, np.int16))[0]

    def resize(self, levels: np.ndarray) -> np.ndarray:
        """As :meth:`Frontend.resize`."""
        return self._frontend.resize(levels)

    def process(self, samples: np.ndarray) -> np.ndarray:
        """Take a block of any size; return the frames that it completes.

        Parameters
        ----------
        samples : numpy.ndarray, shape (n,), int16 or floating in [-1, 1)

        Returns
        -------
        numpy.ndarray, shape (k, n_mels), float32
            The `k` new frames, possibly none.
        """
        c = self.config
        data = np.concatenate([self._pending, to_int16(samples)])
        dropped = min(self._skip, len(data))
        self._skip -= dropped
        data = data[dropped:]
        levels = self._frontend._levels(data, lane=self.n_frames % LANES)
        n = len(levels)
        self.n_frames += n
        used = min(n * c.hop_length, len(data))
        self._skip += n * c.hop_length - used
        self._pending = data[used:].copy()
        return levels
