"""What a model makes of a stream of frames: a posterior for the last window, or one for each step since the last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kws_edge.diagnostics.latency import FRONTEND, INVOKE, QUANTISE, Stopwatch
from kws_edge.labels import is_keyword
from kws_edge.model.model import Model
from kws_edge.model.quantization import posterior

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ClipStream", "ConfirmedStream", "StepStream", "step_stream_of", "stream_of"]


_NEVER = 1e-5
"""No posterior is nearer to 0 or 1 than this."""


def stream_of(model: Model, hop_frames: int) -> ClipStream | StepStream:
    """A new stream for `model`, which hears `hop_frames` at a time; see :meth:`Model.hop_frames`."""
    return ClipStream(model) if model.step is None else step_stream_of(model, hop_frames)


def step_stream_of(model: Model, hop_frames: int) -> StepStream:
    """The same for a network with state."""
    return StepStream(model, hop_frames) if model.confirming is None else ConfirmedStream(model, hop_frames)


class _Window:
    """The last `n` rows that were pushed, contiguous in memory.

    They move through a buffer. At its end they are copied back to its start.
    """

    def __init__(self, n: int, columns: int, dtype: np.dtype[Any] | type | str) -> None:
        self._buffer = np.zeros((2 * n, columns), dtype)
        self._n = self._end = n

    @property
    def rows(self) -> NDArray[Any]:
        """The last `n` rows, shape (n, columns)."""
        return self._buffer[self._end - self._n : self._end]

    def extend(self, n: int) -> NDArray[Any]:
        """Return the next `n` rows for the caller to fill. `n` is at most the window's number of rows."""
        start = self._end
        if start + n > len(self._buffer):
            self._buffer[: self._n] = self.rows
            start = self._n
        self._end = start + n
        return self._buffer[start : self._end]


def _no_frames(model: Model) -> NDArray[np.float32]:
    return np.empty((0, model.frontend_config.feature_shape[1]), np.float32)


class ClipStream:
    """A model of clips hears the last window of a clip's length at each hop; before a stream is silence.

    Each window is a clip of its own, as in training. So its features are made anew if they depend on the clip. But if
    the network has variables, it hears one stream, and so does its front end.

    Attributes
    ----------
    input : numpy.ndarray or None
        Input of the latest inference, with the input tensor's dtype. It is valid until the next one.
    frames : numpy.ndarray, shape (hop_frames, n_mels), float32
        Features of the frames that the latest inference added. With `n_mfcc` they have that many columns.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.interpreter = model.interpreter.another()
        c, frontend = model.frontend_config, model.frontend
        self._n_frames = c.n_frames
        self._runs = model.flat.stateful and not frontend.by_frame
        # The last rows. They are quantised, so that each is quantised once, unless the clip decides on their features.
        self._anew = c.resize_frames is not None or not (frontend.by_frame or self._runs)
        self._silence = frontend.silence() if self._runs else frontend.silent_row()
        self._last = _Window(c.n_frames, len(self._silence), np.float32 if self._anew else model.input.dtype)
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self.interpreter.reset()
        self._push(np.tile(self._silence, (self._n_frames, 1)))
        self._running = self.model.frontend.running() if self._runs else None
        self.input: NDArray[Any] | None = None
        self.frames = _no_frames(self.model)

    def posteriors(self, rows: NDArray[np.float32], watch: Stopwatch) -> Sequence[NDArray[np.float32]]:
        """Take one hop; one array of shape (n_labels,), float32.

        Parameters
        ----------
        rows : numpy.ndarray, shape (hop_frames, columns), float32
            From a :class:`kws_edge.features.frontend.FrameStream`.
        watch : Stopwatch
            Times the stages.
        """
        model = self.model
        if self._running is not None:
            rows = self._running(rows)
        if self._anew:
            self._push(rows)
            features = model.frontend.features(self._last.rows)
            self.frames = features[-len(rows) :]
            features = model.frontend.resize(features)
            watch.lap(FRONTEND)
            self.input = model.quantize(features)
        else:
            watch.lap(FRONTEND)
            self.frames = rows
            self._push(rows)
            self.input = self._last.rows.reshape(model.input.shape)
        watch.lap(QUANTISE)
        q = self.interpreter.invoke(self.input)
        watch.lap(INVOKE)
        posteriors = model.dequantize(q)
        watch.lap(QUANTISE)
        return (posteriors,)

    def _push(self, rows: NDArray[np.float32]) -> None:
        n = min(len(rows), self._n_frames)
        last = self._last.extend(n)
        if self._anew:
            last[:] = rows[-n:]
        else:
            self.model.quantize_levels(rows[-n:], out=last)


class StepStream:
    """A network with state takes what is new, and answers for each of its steps; before a stream its states are zero.

    Attributes as of :class:`ClipStream`.
    """

    def __init__(self, model: Model, hop_frames: int) -> None:
        self.model = model
        self.interpreter = model.stepping(hop_frames)
        self._levels = np.empty((hop_frames, model.frontend_config.feature_shape[1]), model.input.dtype)
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self.interpreter.reset()
        self._features = self.model.frontend.running()
        self.input: NDArray[Any] | None = None
        self.frames = _no_frames(self.model)

    def posteriors(self, rows: NDArray[np.float32], watch: Stopwatch) -> NDArray[np.float32]:
        """Take one hop; the posteriors of its steps, shape (steps, n_labels), float32. Parameters: see ClipStream."""
        self.frames = self._features(rows)
        watch.lap(FRONTEND)
        return self.hear(self.frames, watch)

    def hear(self, features: NDArray[np.float32], watch: Stopwatch) -> NDArray[np.float32]:
        """As :meth:`posteriors`, but takes the hop's features, shape (hop_frames, columns), float32."""
        self.model.quantize_levels(features, out=self._levels)
        self.input = self._levels[np.newaxis, :, np.newaxis]
        watch.lap(QUANTISE)
        q = self.interpreter.invoke(self.input)
        watch.lap(INVOKE)
        posteriors = self.model.dequantize(q)
        watch.lap(QUANTISE)
        return posteriors


class ConfirmedStream(StepStream):
    """A network with state, whose answers a second network confirms.

    Where the first network gives a keyword a posterior of `least` or more, the second hears the last window of a clip's
    length, and earlier ones. The keyword's posterior becomes that of the mean of two logits: the first network's, and
    that of the second network's mean posterior. The second network is asked as rarely as something sounds like a word.

    Attributes as of :class:`ClipStream`.
    """

    def __init__(self, model: Model, hop_frames: int) -> None:
        assert model.confirming is not None
        assert model.metadata.confirm is not None
        self._second, self._config = model.confirming, model.metadata.confirm
        self._asked = self._second.interpreter.another()
        self._columns = [i for i, label in enumerate(model.labels) if is_keyword(label)]
        self._its_columns = [self._second.labels.index(model.labels[i]) for i in self._columns]
        self._n_frames = self._second.frontend_config.n_frames
        self._back = [i * self._config.spacing_frames for i in range(self._config.windows)]
        n = self._n_frames + self._back[-1] + hop_frames
        self._heard = _Window(n, model.frontend_config.feature_shape[1], self._second.input.dtype)
        super().__init__(model, hop_frames)

    def reset(self) -> None:
        """Start a new stream."""
        super().reset()
        rows = self._heard.rows
        self._second.quantize_levels(np.tile(self.model.frontend.silence(), (len(rows), 1)), out=rows)
        self._end = 0
        self._known: dict[int, NDArray[np.float32]] = {}

    def hear(self, features: NDArray[np.float32], watch: Stopwatch) -> NDArray[np.float32]:
        """As :meth:`StepStream.hear`."""
        posteriors = super().hear(features, watch)
        self._second.quantize_levels(features, out=self._heard.extend(len(features)))
        self._end += len(features)
        step = len(features) // len(posteriors)
        likely = posteriors[:, self._columns] >= self._config.least
        for i in np.flatnonzero(likely.any(axis=1)):
            first = posteriors[i, self._columns]
            second = self._mean(self._end - len(features) + step * (i + 1))
            posteriors[i, self._columns] = np.where(likely[i], _joint(first, second), first)
        watch.lap(INVOKE)
        return posteriors

    def _mean(self, end: int) -> NDArray[np.float32]:
        """The second network's mean posteriors of the keywords at the frame `end` of the stream."""
        ends = [end - back for back in self._back]
        self._known = {key: value for key, value in self._known.items() if key >= ends[-1]}
        for key in ends:
            if key not in self._known:
                self._known[key] = self._ask(key)
        mean: NDArray[np.float32] = np.mean([self._known[key] for key in ends], axis=0)
        return mean

    def _ask(self, end: int) -> NDArray[np.float32]:
        rows, second = self._heard.rows, self._second
        stop = len(rows) - (self._end - end)
        q = self._asked.invoke(rows[stop - self._n_frames : stop].reshape(second.input.shape))
        return second.dequantize(q)[self._its_columns]


def _joint(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """The posteriors of the mean logits."""
    logits = [np.log(p / (1 - p)) for p in (np.clip(p.astype(float), _NEVER, 1 - _NEVER) for p in (first, second))]
    return posterior((logits[0] + logits[1]) / 2, 0.0)
