"""What a model makes of a stream of frames: a posterior for the last window, or one for each step since the last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kws_edge.diagnostics.latency import FRONTEND, INVOKE, QUANTISE, Stopwatch
from kws_edge.model.interpreter import Interpreter
from kws_edge.model.model import Model
from kws_edge.model.window import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ClipStream", "StepStream", "stream_of"]


def stream_of(model: Model, hop_frames: int, interpreter: Interpreter | None = None) -> ClipStream | StepStream:
    """A new stream for `model`, which hears `hop_frames` at a time; see :meth:`Model.hop_frames`.

    A model of clips may run in another `interpreter`.
    """
    return ClipStream(model, interpreter) if model.step is None else StepStream(model, hop_frames)


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

    def __init__(self, model: Model, interpreter: Interpreter | None = None) -> None:
        self.model = model
        self.interpreter = (interpreter or model.interpreter).another()
        c, frontend = model.frontend_config, model.frontend
        self._n_frames = c.n_frames
        self._runs = model.flat.stateful and not frontend.by_frame
        # The last rows. They are quantised, so that each is quantised once, unless the clip decides on their features.
        self._anew = c.resize_frames is not None or not (frontend.by_frame or self._runs)
        self._silence = frontend.silence() if self._runs else frontend.silent_row()
        self._last = Window(c.n_frames, len(self._silence), np.float32 if self._anew else model.input.dtype)
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
        self._confirmer = model.confirmer(hop_frames)
        self.reset()

    def reset(self) -> None:
        """Start a new stream."""
        self.interpreter.reset()
        self._features = self.model.frontend.running()
        if self._confirmer:
            self._confirmer.reset()
        self.input: NDArray[Any] | None = None
        self.frames = _no_frames(self.model)

    def posteriors(self, rows: NDArray[np.float32], watch: Stopwatch) -> NDArray[np.float32]:
        """Take one hop; the posteriors of its steps, shape (steps, n_labels), float32. Parameters: see ClipStream."""
        self.frames = self._features(rows)
        watch.lap(FRONTEND)
        self.model.quantize_levels(self.frames, out=self._levels)
        self.input = self._levels[np.newaxis, :, np.newaxis]
        watch.lap(QUANTISE)
        q = self.interpreter.invoke(self.input)
        watch.lap(INVOKE)
        posteriors = self.model.dequantize(q)
        watch.lap(QUANTISE)
        if self._confirmer:
            self._confirmer.confirm(self.frames, posteriors)
            watch.lap(INVOKE)
        return posteriors
