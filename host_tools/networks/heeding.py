"""Networks with state that heed speech: scores of words are lower after it, because people say commands after a pause.

The layers that do so have fixed weights. They are put on a trained network of :mod:`host_tools.networks.streaming`, and
its training takes the scores before them.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

from host_tools.networks.layers import Memory, Span
from host_tools.networks.streaming import SCORE_OFFSET, answer_frames
from kws_edge.config import FrontendConfig

__all__ = ["heeding_speech", "speech_before"]

_BEFORE_MS = (520.0, 1840.0)
"""Speech this long before an answer lowers its scores."""
_CERTAIN = 3.0
"""Logit from which speech counts fully. Below its negative, it does not count."""


@keras.saving.register_keras_serializable("kws_edge")
class _Fixed(keras.initializers.Initializer):
    """These values.

    Parameters
    ----------
    values : array_like
    """

    def __init__(self, values) -> None:
        self.values = np.asarray(values, np.float32)

    def __call__(self, shape, dtype=None):
        return ops.reshape(ops.convert_to_tensor(self.values, dtype=dtype), shape)

    def get_config(self) -> dict:
        return {"values": self.values.tolist()}


def speech_before(hop_ms: float, answer_frames: int) -> tuple[int, int]:
    """The answers whose speech lowers a score: the earliest and the latest, each as a number of answers before it.

    Parameters
    ----------
    hop_ms : float
    answer_frames : int
        Frames from one answer to the next.
    """
    latest, earliest = (round(ms / (hop_ms * answer_frames)) for ms in _BEFORE_MS)
    return max(earliest, 1), max(latest, 1)


def heeding_speech(network: keras.Model, voice: int, cost: float, config: FrontendConfig) -> keras.Model:
    """`network` with scores that are lower after speech.

    The mean of the speech score over the time from 1.84 s to 0.52 s before an answer, mapped to [0, 1], is multiplied
    by `cost` and taken from the scores of words. The layers that do so have fixed weights and one more state. All of
    them end in rectifiers, as those before do.

    Parameters
    ----------
    network : keras.Model
    voice : int
        The output of any speech, whose score stays.
    cost : float
        How much the scores are lower after speech alone.
    config : FrontendConfig
    """
    n_words = network.outputs[0].shape[-1]
    earliest, latest = speech_before(config.hop_ms, answer_frames(network))
    scores, remembered = network.outputs[0], Memory()
    chosen = np.zeros((1, n_words, 1))
    chosen[0, voice] = -1
    doubt = _fixed(scores, "doubt", chosen, SCORE_OFFSET + _CERTAIN)
    speech = _fixed(doubt, "speech", -np.ones((1, 1, 1)), 2 * _CERTAIN)
    span = earliest - latest + 1
    before = Span(0, -latest, name="speech_heard")(remembered(speech, "speech", earliest))
    mean = _fixed(before, "before", np.full((span, 1, 1), 1 / span))
    kernel = np.eye(n_words + 1, n_words)
    kernel[-1] = -cost / (2 * _CERTAIN)
    kernel[-1, voice] = 0
    lowered = _fixed(layers.Concatenate(name="with_before")([scores, mean]), "heeding", kernel[np.newaxis])
    inputs = [*network.inputs, *remembered.states]
    return keras.Model(inputs, [lowered, *network.outputs[1:], *remembered.next], name=network.name)


def _fixed(x, name: str, kernel: np.ndarray, bias: float = 0.0):
    """A convolution that is not trained, with a kernel of shape (steps, channels, outputs), and a rectifier."""
    initial = {"kernel_initializer": _Fixed(kernel), "bias_initializer": keras.initializers.Constant(bias)}
    conv = layers.Conv2D(kernel.shape[-1], (len(kernel), 1), trainable=False, name=name, **initial)
    return layers.ReLU(name=f"{name}_relu")(conv(x))
