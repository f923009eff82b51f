"""The front end: int16 audio to features, for whole clips and for streams.

Features are made in two steps. A frame gives a row, which depends on its samples alone. The rows of a clip then give
its features. With most front ends a row is the frame's features already. With others the features of a frame depend on
the clip: on the frames before, by noise reduction, or on its largest sample.

The frames of a stream give the same rows as those of a clip, bit for bit, for blocks of any size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from kws_edge.audio_limits import check_scale
from kws_edge.config import MICROFRONTEND, FrontendConfig
from kws_edge.errors import AudioError
from kws_edge.features.log_mel import LANES, Cepstra, LogMel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kws_edge.features.microfrontend import Adaptation

__all__ = [
    "FrameStream",
    "Frontend",
    "StreamingFrontend",
    "fit_clip",
    "resize_frames",
    "resize_positions",
    "to_int16",
]

_INT16 = np.dtype(np.int16)


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


class Rows(Protocol):
    """The first step of a front end."""

    columns: int
    """Numbers in a row."""

    def rows(self, frames: NDArray[np.int16], *, lane: int = 0) -> NDArray[np.float32]:
        """Rows of frames, shape (n, columns), float32. `lane` is as for :meth:`LogMel.rows`."""


class Frontend:
    """Computes the features of whole clips.

    An instance has buffers, so use it in one thread at a time.

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
        self._first: Rows
        self._second: Cepstra | Adaptation | None = None
        if c.algorithm == MICROFRONTEND:  # loads only if it is used
            from kws_edge.features.microfrontend import Adaptation, FixedBands

            self._first, self._second = FixedBands(c), Adaptation(c)
        elif c.n_mfcc is not None or c.normalise:
            self._first = self._second = Cepstra(c)
        else:
            self._first = LogMel(c)

    @property
    def columns(self) -> int:
        """Numbers in a row."""
        return self._first.columns

    @property
    def by_frame(self) -> bool:
        """Whether a frame's features depend on its samples alone, so that its row is its features."""
        return self._second is None

    def rows(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """Compute the row of every full frame. Parameters and errors are those of :meth:`frames`.

        Returns
        -------
        numpy.ndarray, shape (1 + (n - frame_length) // hop_length, columns), float32
        """
        return self._first.rows(self._framed(np.ascontiguousarray(to_int16(samples))))

    def features(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features of a clip from its rows, one for each frame. Silence is before it.

        Returns
        -------
        numpy.ndarray, shape (n, n_mels), or with `n_mfcc` (n, n_mfcc), float32
        """
        return rows if self._second is None else self._second(rows)

    def frames(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """Compute the features of every full frame in `samples`, which are one clip of any length.

        Parameters
        ----------
        samples : numpy.ndarray, shape (n,), int16 or floating in [-1, 1)

        Returns
        -------
        numpy.ndarray, shape (1 + (n - frame_length) // hop_length, n_mels), float32
            No rows if `samples` is shorter than a frame. With `n_mfcc` they have that many columns.

        Raises
        ------
        AudioError
            If the samples are not mono, have another type, or are not numbers.
        """
        return self.features(self.rows(samples))

    def __call__(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """Compute the model input for one clip: the features of the centred `samples`, resized if configured.

        Returns
        -------
        numpy.ndarray, shape config.feature_shape, float32
        """
        return self.resize(self.frames(fit_clip(to_int16(samples), self.config.clip_samples)))

    def resize(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring the features of a clip's `n_frames` frames into the shape that the model takes."""
        n = self.config.resize_frames
        return features if n is None else resize_frames(features, n)

    def silence(self) -> NDArray[np.float32]:
        """Features of a frame of digital silence, shape (n_mels,) or (n_mfcc,), float32."""
        features: NDArray[np.float32] = self.features(self.silent_row()[np.newaxis])[0]
        return features

    def silent_row(self) -> NDArray[np.float32]:
        """The row of a frame of digital silence, shape (columns,), float32."""
        row: NDArray[np.float32] = self.rows(np.zeros(self.config.frame_length, np.int16))[0]
        return row

    def running(self) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        """A function that takes the rows of a stream, in parts of any size, and returns their features.

        Silence is before the first part. The function keeps what it must know of the frames before.

        Raises
        ------
        ConfigError
            If a clip is normalised, because a stream has no largest sample.
        """
        return self.features if self._second is None else self._second.running()

    def _framed(self, samples: NDArray[np.int16]) -> NDArray[np.int16]:
        """The full frames in contiguous int16 `samples`: a view, shape (n, frame_length)."""
        shape = self.config.frames_in(len(samples)), self._frame
        # sliding_window_view takes 60 us
        frames: NDArray[np.int16] = np.ndarray(shape, np.int16, samples, 0, (2 * self._hop, 2))
        return frames


class FrameStream:
    """Cuts a stream into frames. Each frame's row is computed once, as soon as its last sample is there.

    Parameters
    ----------
    config : FrontendConfig
    frontend : Frontend, optional
        Front end of this configuration. Streams that take turns may share one, with its tables and buffers.

    Raises
    ------
    ConfigError
        As :class:`Frontend` does.
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
        """Take a block of any size; return the rows of the frames that it completes.

        Parameters
        ----------
        samples : numpy.ndarray, shape (n,), int16 or floating in [-1, 1)
        multiple : int
            Return a multiple of this number of frames, and hold back the rest. Frames together cost much less.

        Returns
        -------
        numpy.ndarray, shape (k, frontend.columns), float32
            The rows of the `k` new frames; `k` may be 0.

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
            return np.empty((0, self._frontend.columns), np.float32)
        rows = self._frontend._first.rows(self._frames[:n], lane=self.n_frames % LANES)
        self.n_frames += n
        used = min(n * self._hop, end)
        self._skip = n * self._hop - used
        self._n_pending = end - used
        self._pending[: self._n_pending] = self._pending[used:end]
        return rows


class StreamingFrontend(FrameStream):
    """Computes the features of a stream, frame by frame as :class:`FrameStream`. Silence is before the stream.

    Parameters
    ----------
    config : FrontendConfig
    frontend : Frontend, optional
        As for :class:`FrameStream`.

    Raises
    ------
    ConfigError
        As :class:`Frontend` does, and if the front end normalises clips.

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

    def reset(self) -> None:
        """Forget everything. The next sample is the first one of a new stream."""
        super().reset()
        self._features = self._frontend.running()

    def process(self, samples: NDArray[Any], *, multiple: int = 1) -> NDArray[np.float32]:
        """Take a block of any size; return the features of the frames that it completes.

        Parameters and errors are those of :meth:`FrameStream.process`.

        Returns
        -------
        numpy.ndarray, shape (k, n_mels), or with `n_mfcc` (k, n_mfcc), float32
        """
        return self._features(super().process(samples, multiple=multiple))
