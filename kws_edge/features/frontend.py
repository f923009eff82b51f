"""The front end: int16 audio to log-mel features, for whole clips and for streams.

Both forms run the same arithmetic on the same shapes. NumPy transforms each frame by itself. The rounding of a matrix
product may depend on its shape and on the row. So it is computed in groups of :data:`LANES` rows. The index of a frame
gives its row in the group, even if its neighbours are missing. So the features of a stream equal those of the whole
clip bit for bit, for blocks of any size.

Frames pass through buffers of at most :data:`BATCH` rows, which are made once and stay in the processor's cache. New
arrays for a whole clip would cost more in page faults than the transforms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kws_edge.audio_limits import check_scale
from kws_edge.config import FrontendConfig
from kws_edge.errors import AudioError, ConfigError
from kws_edge.features.mel import mel_matrix, window

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "BATCH",
    "LANES",
    "Frontend",
    "StreamingFrontend",
    "fit_clip",
    "resize_frames",
    "resize_positions",
    "to_int16",
]

_INT16 = np.dtype(np.int16)
_ONE = np.array(1.0)  # factor of a transform

LANES = 8
"""Rows of one matrix product."""

BATCH = 7 * LANES
"""Most rows that pass through the buffers at a time: about half a second at a hop of 10 ms.

With more rows, each row takes no less time. With fewer rows, the calls cost too much.
"""

try:  # np.fft.rfft of NumPy 2 calls this after checks of its arguments, which take 40 us if caches are cold.
    from numpy.fft._pocketfft_umath import (  # type: ignore[import-not-found]
        rfft_n_even,
        rfft_n_odd,
    )

    _DIRECT = rfft_n_even.signature == rfft_n_odd.signature == "(n),()->(m)"
except (ImportError, AttributeError):  # NumPy 1, or a future NumPy: the public function does the same
    _DIRECT = False


def to_int16(samples: NDArray[Any]) -> NDArray[np.int16]:
    """Convert samples to int16. Integers are unchanged; floats have full scale [-1, 1), and are rounded and saturated.

    Parameters
    ----------
    samples : numpy.ndarray, shape (n,), int16 or floating

    Raises
    ------
    AudioError
        If the array is not one-dimensional, has another type, is far beyond full scale, or holds NaN or infinity.
    """
    given, samples = samples, np.asarray(samples)
    if samples.ndim != 1:
        if not samples.ndim:
            raise AudioError(
                f"expected an array of samples, got {type(given).__name__}; AudioFile reads a file, "
                "numpy.frombuffer(data, numpy.int16) takes bytes"
            )
        raise AudioError(f"expected mono samples of shape (n,), got shape {samples.shape}; mix the channels down first")
    if samples.dtype == _INT16:
        return samples
    if not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(f"expected int16 or floating-point samples, got {samples.dtype}")
    check_scale(samples)
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)


def fit_clip(samples: NDArray[np.int16], length: int) -> NDArray[np.int16]:
    """Centre `samples` in `length` samples: cut both sides, or pad with zeros, half of them (rounded down) in front.

    Parameters
    ----------
    samples : numpy.ndarray, shape (n,), int16
    length : int

    Returns
    -------
    numpy.ndarray, shape (length,), int16
    """
    missing = length - len(samples)
    if missing < 0:
        start = -missing // 2
        return samples[start : start + length]
    return np.pad(samples, (missing // 2, missing - missing // 2))


def resize_positions(n_in: int, n_out: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Position of each of `n_out` frames among `n_in`: its two neighbours, and the fraction of the way between them.

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


def resize_frames(features: NDArray[np.float32], n_frames: int) -> NDArray[np.float32]:
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
    """Computes the features of whole clips.

    Windowing and transform use float64. NumPy's FFT is no slower in float64, and the rounding of loud bands does not
    hide bands near silence. All later steps use float32. An instance has buffers, so use it in one thread at a time.

    Parameters
    ----------
    config : FrontendConfig

    Raises
    ------
    ConfigError
        If no bin of the transform falls into any mel band.

    Examples
    --------
    >>> import numpy as np
    >>> from kws_edge import Frontend, preset
    >>> frontend = Frontend(preset("logmel40"))
    >>> samples = (8000 * np.sin(2 * np.pi * 440 * np.arange(8000) / 16000)).astype(np.int16)
    >>> frontend.frames(samples).shape
    (48, 40)

    Called, it centres the samples in a clip:

    >>> features = frontend(samples)
    >>> features.shape, str(features.dtype)
    ((98, 40), 'float32')
    """

    def __init__(self, config: FrontendConfig) -> None:
        self.config = c = config
        self._frame, self._hop = c.frame_length, c.hop_length  # a configuration computes them anew each time
        matrix = mel_matrix(c)
        used = np.flatnonzero(matrix.any(axis=1))
        if not len(used):
            raise ConfigError(
                f"no FFT bin falls into any band of {c.f_min_hz:g} to {c.f_max_hz:g} Hz; raise n_fft or widen the band"
            )
        first, last = int(used[0]), int(used[-1]) + 1
        self._matrix = np.ascontiguousarray(matrix[first:last])
        # Operands after the bands. They are zero-dimensional arrays, because NumPy takes longer to convert a number.
        self._offset = np.array(c.log_offset, np.float32)
        self._after = [
            (operation, np.array(value, np.float32))
            for operation, value, neutral in (
                (np.multiply, c.log_gain, 1),
                (np.add, c.level_offset, 0),
                (np.maximum, c.level_min, None),
                (np.minimum, c.level_max, None),
            )
            if value != neutral
        ]
        self._window = window(c) * np.float64(c.sample_scale)
        self._magnitude = c.spectrum == "magnitude"
        self._n_bins, self._used = c.n_fft // 2 + 1, slice(first, last)
        self._transform = (rfft_n_odd if c.n_fft % 2 else rfft_n_even) if _DIRECT else _rfft
        self._make_buffers(1)

    def _make_buffers(self, n: int) -> None:
        """Make buffers for `n` frames at a time."""
        c, groups = self.config, -(-(n + LANES - 1) // LANES)
        self._padded = np.zeros((n, c.n_fft))
        # NumPy takes 0.1 us for each row of an array that is not contiguous. So it is quicker to keep a window for each
        # frame, and to square even the bins that no band needs.
        self._windows = np.zeros((n, c.n_fft))
        self._windows[:, : c.frame_length] = self._window
        self._bins = np.empty((n, self._n_bins), complex)
        self._parts = self._bins.reshape(-1).view(float)  # real and imaginary parts in turn
        self._power = np.zeros(groups * LANES * self._n_bins, np.float32)
        self._groups = self._power.reshape(groups, LANES, self._n_bins)[:, :, self._used]
        self._bands = np.empty((groups, LANES, c.n_mels), np.float32)
        self._rows = self._bands.reshape(groups * LANES, c.n_mels)

    def frames(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """Compute the levels of every full frame in `samples`.

        Parameters
        ----------
        samples : numpy.ndarray, shape (n,), int16 or floating in [-1, 1)

        Returns
        -------
        numpy.ndarray, shape (1 + (n - frame_length) // hop_length, n_mels), float32
            No rows if `samples` is shorter than a frame.

        Raises
        ------
        AudioError
            If the samples are not mono, have another type, or are not numbers.
        """
        return self._levels(self._framed(np.ascontiguousarray(to_int16(samples))), lane=0)

    def __call__(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """Compute the model input for one clip: the levels of the centred `samples`, resized if configured.

        Returns
        -------
        numpy.ndarray, shape config.feature_shape, float32
        """
        return self.resize(self.frames(fit_clip(to_int16(samples), self.config.clip_samples)))

    def resize(self, levels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring a clip's `n_frames` rows of levels into the shape that the model takes."""
        n = self.config.resize_frames
        return levels if n is None else resize_frames(levels, n)

    def silence(self) -> NDArray[np.float32]:
        """Levels of a frame of digital silence, shape (n_mels,), float32."""
        levels: NDArray[np.float32] = self.frames(np.zeros(self.config.frame_length, np.int16))[0]
        return levels

    def _framed(self, samples: NDArray[np.int16]) -> NDArray[np.int16]:
        """The full frames in contiguous int16 `samples`: a view, shape (n, frame_length)."""
        shape = self.config.frames_in(len(samples)), self._frame
        # sliding_window_view takes 60 us
        frames: NDArray[np.int16] = np.ndarray(shape, np.int16, samples, 0, (2 * self._hop, 2))
        return frames

    def _levels(self, frames: NDArray[np.int16], *, lane: int) -> NDArray[np.float32]:
        """Levels of int16 `frames`, shape (n, frame_length). The first frame belongs in row `lane` of its group."""
        parts: list[NDArray[np.float32]] = []
        done = 0
        while done < len(frames) or not parts:
            rows = min(BATCH - lane, len(frames) - done)
            parts.append(self._bands_of(frames[done : done + rows], lane) + self._offset)
            done, lane = done + rows, 0
        levels = parts[0] if len(parts) == 1 else np.concatenate(parts)
        np.log(levels, out=levels)
        for operation, value in self._after:
            operation(levels, value, out=levels)
        return levels

    def _bands_of(self, frames: NDArray[np.int16], lane: int) -> NDArray[np.float32]:
        """Mel bands of `n` frames, at most :data:`BATCH`: a view, shape (n, n_mels), float32.

        The frames go into the rows from `lane` to `lane + n` of the buffers.
        """
        n = len(frames)
        if n > len(self._padded):
            self._make_buffers(n)
        padded, end, bins = self._padded[:n], lane + n, self._n_bins
        padded[:, : self._frame] = frames
        padded *= self._windows[:n]
        self._transform(padded, _ONE, self._bins[:n])
        squares = self._parts[: 2 * n * bins]
        np.multiply(squares, squares, out=squares)  # np.square would load one more operation into cold caches
        power = self._power[lane * bins : end * bins]
        if self._magnitude:
            magnitude = np.add(squares[::2], squares[1::2], out=squares[::2])
            np.sqrt(magnitude, out=power, casting="same_kind")
        else:
            np.add(squares[::2], squares[1::2], out=power, casting="same_kind")
        groups = -(-end // LANES)
        np.matmul(self._groups[:groups], self._matrix, out=self._bands[:groups])
        return self._rows[lane:end]


def _rfft(frames: NDArray[np.float64], factor: NDArray[np.float64], out: NDArray[np.complex128]) -> None:
    """The real FFT of NumPy; `factor` is 1."""
    out[:] = np.fft.rfft(frames)


class StreamingFrontend:
    """Computes the levels of a stream. Each frame is computed once, as soon as its last sample is there.

    Parameters
    ----------
    config : FrontendConfig
    frontend : Frontend, optional
        Front end of this configuration. Streams that take turns may share one, with its tables and buffers.

    Raises
    ------
    ConfigError
        As :class:`Frontend` does.

    Examples
    --------
    >>> import numpy as np
    >>> from kws_edge import Frontend, StreamingFrontend, preset
    >>> config = preset("logmel40")
    >>> samples = np.random.default_rng(0).integers(-3000, 3000, 16000).astype(np.int16)
    >>> stream = StreamingFrontend(config)
    >>> parts = [stream.process(samples[start : start + 700]) for start in range(0, 16000, 700)]
    >>> [len(part) for part in parts[:3]], np.array_equal(np.concatenate(parts), Frontend(config).frames(samples))
    ([2, 4, 5], True)
    """

    def __init__(self, config: FrontendConfig, *, frontend: Frontend | None = None) -> None:
        self.config = config
        self._frontend = frontend or Frontend(config)
        self._frame, self._hop = config.frame_length, config.hop_length
        self.reset()

    def reset(self) -> None:
        """Forget everything. The next sample is the first one of a new stream."""
        self._keep(np.empty(0, np.int16))
        self._n_pending = 0  # samples in the buffer, from the start of the next frame on
        self._skip = 0  # samples still to drop before the next frame, if the hop is longer than the frame
        self.n_frames = 0  # frames returned so far

    def _keep(self, pending: NDArray[np.int16]) -> None:
        """Set the buffer of unused samples, and the frames in it."""
        self._pending, self._frames = pending, self._frontend._framed(pending)

    def samples_to(self, n_frames: int) -> int:
        """Samples that are still missing for `n_frames` more frames."""
        return self._skip + (n_frames - 1) * self._hop + self._frame - self._n_pending

    def process(self, samples: NDArray[Any], *, multiple: int = 1) -> NDArray[np.float32]:
        """Take a block of any size; return the frames that it completes.

        Parameters
        ----------
        samples : numpy.ndarray, shape (n,), int16 or floating in [-1, 1)
        multiple : int
            Return a multiple of this number of frames, and hold back the rest. Frames together cost much less.

        Returns
        -------
        numpy.ndarray, shape (k, n_mels), float32
            The `k` new frames; `k` may be 0.

        Raises
        ------
        AudioError
            If the samples are not mono, have another type, or are not numbers.
        """
        samples = to_int16(samples)
        if self._skip:
            dropped = min(self._skip, len(samples))
            self._skip -= dropped
            samples = samples[dropped:]
        end = self._n_pending + len(samples)
        if end > len(self._pending):
            self._keep(np.concatenate([self._pending[: self._n_pending], samples]))
        else:
            self._pending[self._n_pending : end] = samples
        self._n_pending = end
        n = max(0, 1 + (end - self._frame) // self._hop) // multiple * multiple
        if not n:
            return np.empty((0, self.config.n_mels), np.float32)
        levels = self._frontend._levels(self._frames[:n], lane=self.n_frames % LANES)
        self.n_frames += n
        used = min(n * self._hop, end)
        self._skip = n * self._hop - used
        self._n_pending = end - used
        self._pending[: self._n_pending] = self._pending[used:end]
        return levels
