"""Log-mel levels in floating point, and MFCC.

NumPy transforms each frame by itself. The rounding of a matrix product may depend on its shape and on the row. So it is
computed in groups of :data:`LANES` rows. The index of a frame gives its row in the group, even if its neighbours are
missing. So a frame has the same bits in a clip and in a stream.

Frames pass through buffers of at most :data:`BATCH` rows, which are made once and stay in the processor's cache. New
arrays for a whole clip would cost more in page faults than the transforms.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from kws_edge.config import FrontendConfig
from kws_edge.errors import ConfigError
from kws_edge.features.mel import mel_matrix, used_bins, window

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BATCH", "LANES", "Cepstra", "LogMel"]

_ONE = np.array(1.0)  # factor of a transform
_NOTHING = np.array(0, np.float32)

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


class LogMel:
    """Levels of frames.

    Windowing and transform use float64. NumPy's FFT is no slower in float64, and the rounding of loud bands does not
    hide bands near silence. All later steps use float32. An instance has buffers, so use it in one thread at a time.

    Parameters
    ----------
    config : FrontendConfig

    Raises
    ------
    ConfigError
        If no bin of the transform falls into any mel band.
    """

    def __init__(self, config: FrontendConfig) -> None:
        self.config = c = config
        self.columns = c.n_mels
        self._frame = c.frame_length  # a configuration computes it anew each time
        matrix = mel_matrix(c)
        self._used = used_bins(matrix, c)
        self._matrix = np.ascontiguousarray(matrix[self._used])
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
        self._n_bins = c.n_fft // 2 + 1
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

    def rows(self, frames: NDArray[np.int16], *, lane: int = 0) -> NDArray[np.float32]:
        """Levels of frames.

        Parameters
        ----------
        frames : numpy.ndarray, shape (n, frame_length), int16
        lane : int
            Row of its group to which the first frame belongs.

        Returns
        -------
        numpy.ndarray, shape (n, n_mels), float32
        """
        return self._levels(self._collected(frames, lane, self._offset))

    def bands(self, frames: NDArray[np.int16], *, lane: int = 0) -> NDArray[np.float32]:
        """Mel bands of frames, before the logarithm. Parameters and result are those of :meth:`rows`."""
        return self._collected(frames, lane, _NOTHING)

    def _collected(self, frames: NDArray[np.int16], lane: int, offset: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bands of frames plus `offset`, as a new array."""
        parts: list[NDArray[np.float32]] = []
        done = 0
        while done < len(frames) or not parts:
            rows = min(BATCH - lane, len(frames) - done)
            parts.append(self._bands_of(frames[done : done + rows], lane) + offset)
            done, lane = done + rows, 0
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def levels(self, bands: NDArray[np.float32]) -> NDArray[np.float32]:
        """Levels of bands, of the same shape."""
        return self._levels(bands + self._offset)

    def _levels(self, bands: NDArray[np.float32]) -> NDArray[np.float32]:
        """Levels of bands to which the offset was added, in place."""
        np.log(bands, out=bands)
        for operation, value in self._after:
            operation(bands, value, out=bands)
        return bands

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


class Cepstra:
    """Mel bands of frames, and from those of a whole clip its features: normalised levels or MFCC.

    Parameters
    ----------
    config : FrontendConfig
        With `n_mfcc` or `normalise`, or both.

    Raises
    ------
    ConfigError
        As :class:`LogMel` does.
    """

    def __init__(self, config: FrontendConfig) -> None:
        self.config = c = config
        self._log_mel = LogMel(c)
        self._power = 2 if c.spectrum == "power" else 1
        self.columns = c.n_mels + c.normalise
        # DCT-II. As in HTK and tf.signal, the first coefficient has the same factor as the others.
        angles = [[math.pi * k * (i + 0.5) / c.n_mels for i in range(c.n_mels)] for k in range(c.n_mfcc or 0)]
        factor = math.sqrt(2 / c.n_mels)
        self._cosines = np.array([[factor * math.cos(x) for x in row] for row in angles], np.float32)

    def rows(self, frames: NDArray[np.int16], *, lane: int = 0) -> NDArray[np.float32]:
        """Bands of frames, as :meth:`LogMel.bands`. With `normalise`, a last column has each frame's largest sample."""
        bands = self._log_mel.bands(frames, lane=lane)
        if not self.config.normalise:
            return bands
        peaks = frames.max(axis=1, initial=-32768).astype(np.float32)
        return np.concatenate([bands, peaks[:, np.newaxis]], axis=1)

    def running(self) -> Cepstra:
        """What makes features of the rows of a stream; see :meth:`kws_edge.Frontend.running`."""
        if self.config.normalise:
            raise ConfigError("a stream cannot be normalised; its windows can, as those of a model of clips")
        return self

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features of a clip.

        Parameters
        ----------
        rows : numpy.ndarray, shape (n, columns), float32

        Returns
        -------
        numpy.ndarray, shape (n, n_mfcc or n_mels), float32
        """
        c, bands = self.config, rows[:, : self.config.n_mels]
        if c.normalise:
            bands = bands / max(np.float32(1), rows[:, -1].max(initial=1)) ** self._power
        levels = self._log_mel.levels(bands)
        if c.n_mfcc is None:
            return levels
        # A matrix product might round a row by the number of rows.
        features: NDArray[np.float32] = (levels[:, np.newaxis] * self._cosines).sum(axis=2)
        return features
