"""Networks with state: temporal convolutions that take what is new and their own past, and answer at every step.

The same Keras model is the whole-sequence form and the step form. Its inputs are ``levels``, shape (n, frames, 1,
mels), and states, shape (n, past, 1, channels of the layer's input). Its outputs are ``scores``, shape (n, steps, 1,
n_words), and the next states, in the same order. Zeros are the states of a stream that begins.

Every convolution ends in a rectifier, before the sum and at the scores, too. TFLite's kernels and TFLite Micro's round
negative halves differently. Without negative values both give the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import keras
import numpy as np
from keras import layers

from host_tools.errors import TrainingError
from host_tools.networks.layers import LevelConv2D, Memory, Span, level_range, normalised, scaled
from host_tools.networks.qat import is_quantisation_aware
from kws_edge.config import FrontendConfig
from kws_edge.labels import SILENCE, UNKNOWN

__all__ = [
    "HEAD",
    "SCORE_OFFSET",
    "Separable",
    "answer_frames",
    "get_words",
    "scores_of",
    "scoring",
    "separable",
    "set_by_name",
    "set_words",
    "states",
    "stream_micro",
    "stream_residual",
    "stream_word",
    "transfer_clip",
]

SCORE_OFFSET = 8.0
"""A word's posterior is ``sigmoid(score - SCORE_OFFSET)``."""
_RARE = 4.0
"""Scores of a new network begin this much below :data:`SCORE_OFFSET`, because words are rare."""
_EVIDENCE_STEPS = 16
"""Answers over which the scores of :func:`stream_residual` gather what the blocks found."""
HEAD, _SCORES = "words", "scores"
"""Names of the layer of the scores, and of its rectifier."""
_CHUNK = 32
"""Sequences that are computed at a time."""
_NEW = 0.3
"""Weights of new words, as a share of their usual initial values."""


class _Block(NamedTuple):
    """Two convolutions of :func:`stream_residual` and their skip connection."""

    channels: int
    stride: int
    dilations: tuple[int, int]
    past: int
    """Steps of the past that each convolution hears, besides the one of its answer."""
    future: int
    """Steps of the future. The skip connection waits for them."""

    @property
    def length(self) -> int:
        return self.past + 1 + self.future

    @property
    def delay(self) -> int:
        """Outputs by which the block is late."""
        return self.future // 2 + self.future if self.stride == 2 else 2 * self.future


_BLOCKS = (
    _Block(48, 2, (1, 1), 4, 4),
    _Block(48, 1, (1, 1), 4, 1),
    _Block(64, 2, (1, 1), 4, 0),
    _Block(64, 1, (1, 1), 4, 0),
    _Block(128, 1, (1, 2), 4, 0),
    _Block(128, 1, (2, 2), 4, 0),
)


class Separable(NamedTuple):
    """A first convolution, and blocks of a depthwise and a pointwise convolution."""

    channels: int
    stem: int
    """Frames of the first convolution."""
    stride: int
    """Frames of each answer."""
    steps: int
    """Steps of the depthwise convolutions."""
    evidence: int
    """Answers over which the scores gather what the blocks found."""


_MICRO = Separable(channels=96, stem=8, stride=4, steps=7, evidence=8)
_WORD = Separable(channels=64, stem=5, stride=3, steps=9, evidence=6)


def stream_residual(config: FrontendConfig, n_words: int, *, width: float = 1.0, dropout: float = 0.1) -> keras.Model:
    """The residual network of :func:`host_tools.networks.models.residual` with state. It answers every 4 frames.

    A convolution of 3 frames is followed by six residual blocks of two convolutions. The first block has stride 2 and
    looks ahead. The third has stride 2, too. The last two are dilated where the network of clips has its third stride.
    The scores gather what the blocks found in the last 0.64 s. For ``logmel40``, 11 words and width 1: 0.48 M
    parameters, 14.1 M multiply-accumulates a second, 7.7 kB of state. An answer hears the last 2.75 s. It is about the
    time 160 ms before.

    Parameters
    ----------
    config : FrontendConfig
    n_words : int
    width : float
        Factor on the number of channels.
    dropout : float
        Share of the channels that training drops before the scores, each for a whole sequence.
    """

    def conv(x, name, n, length, stride=1, dilation=1):
        options = {"strides": (stride, 1), "dilation_rate": (dilation, 1), "use_bias": False, "name": name}
        return normalised(layers.Conv2D(n, (length, 1), **options)(x), name)

    remembered = Memory()
    levels, x = _stem(config, scaled(_BLOCKS[0].channels, width), 3, 1, remembered)
    for i, block in enumerate(_BLOCKS, 1):
        name, n = f"block{i}", scaled(block.channels, width)
        wait, reach = block.stride * block.delay, (block.length - 1) * block.dilations[0] - (block.stride - 1)
        past = max(reach, wait + block.stride - 1)
        joined = remembered(x, name, past)
        heard = Span(past - reach, name=f"{name}_heard")(joined) if past > reach else joined
        y = conv(heard, f"{name}_conv1", n, block.length, block.stride, block.dilations[0])
        skip = Span(past - wait, -wait or None, name=f"{name}_waited")(joined)
        if block.stride > 1 or n != x.shape[-1]:
            skip = conv(skip, f"{name}_skip", n, 1, block.stride)
        y = remembered(y, f"{name}_mid", (block.length - 1) * block.dilations[1])
        y = conv(y, f"{name}_conv2", n, block.length, 1, block.dilations[1])
        x = layers.Add(name=f"{name}_sum")([skip, y])
    return _scored(levels, x, n_words, dropout, remembered, "stream_residual", _EVIDENCE_STEPS)


def stream_micro(
    config: FrontendConfig,
    n_words: int,
    *,
    width: float = 1.0,
    blocks: int = 8,
    dropout: float = 0.0,
) -> keras.Model:
    """Depthwise-separable temporal convolutions with residuals and state, small enough for a microcontroller.

    A convolution of 8 frames with stride 4 to 96 channels is followed by blocks. Each block is a depthwise convolution
    of 7 steps and a pointwise one. The scores gather what the blocks found in the last 0.32 s. It answers every 4
    frames, and nothing looks ahead. For ``logmel40``, 11 words and width 1: 0.12 M parameters, 3.0 M
    multiply-accumulates a second, 5.4 kB of state. An answer hears the last 2.28 s.

    Parameters
    ----------
    config : FrontendConfig
    n_words : int
    width : float
        Factor on the number of channels.
    blocks : int
    dropout : float
        Share of the channels that training drops before the scores, each for a whole sequence.
    """
    return separable(config, n_words, _MICRO, width=width, blocks=blocks, dropout=dropout, name="stream_micro")


def stream_word(config: FrontendConfig, n_words: int, *, width: float = 1.0, dropout: float = 0.0) -> keras.Model:
    """The form of :func:`stream_micro` in which microWakeWord's devices take a word: it answers every 3 frames.

    A convolution of 5 frames with stride 3 to 64 channels is followed by four blocks, whose depthwise convolutions have
    9 steps. The scores gather what the blocks found in the last 0.18 s. For ``microfrontend``, 2 words and width 1: 35
    thousand parameters, 1.1 M multiply-accumulates a second, 2.4 kB of state in six tensors. An answer hears the last
    1.2 s.

    Parameters
    ----------
    config : FrontendConfig
    n_words : int
    width : float
        Factor on the number of channels.
    dropout : float
        Share of the channels that training drops before the scores, each for a whole sequence.
    """
    return separable(config, n_words, _WORD, width=width, blocks=4, dropout=dropout, name="stream_word")


def separable(
    config: FrontendConfig,
    n_words: int,
    form: Separable,
    *,
    width: float = 1.0,
    blocks: int,
    dropout: float = 0.0,
    name: str = "separable",
) -> keras.Model:
    """Blocks of a depthwise and a pointwise convolution, with a skip connection around both. Nothing looks ahead.

    Parameters
    ----------
    config : FrontendConfig
    n_words : int
    form : Separable
    width : float
        Factor on the number of channels.
    blocks : int
    dropout : float
        Share of the channels that training drops before the scores, each for a whole sequence.
    name : str
    """
    remembered, channels = Memory(), scaled(form.channels, width)
    levels, x = _stem(config, channels, form.stem, form.stride, remembered)
    for block in (f"block{i}" for i in range(1, blocks + 1)):
        y = remembered(x, block, form.steps - 1)
        y = layers.DepthwiseConv2D((form.steps, 1), use_bias=False, name=f"{block}_depthwise")(y)
        y = normalised(y, f"{block}_depthwise")
        y = layers.Conv2D(channels, 1, use_bias=False, name=f"{block}_pointwise")(y)
        x = layers.Add(name=f"{block}_sum")([x, normalised(y, f"{block}_pointwise")])
    return _scored(levels, x, n_words, dropout, remembered, name, form.evidence)


def _stem(config: FrontendConfig, channels: int, length: int, stride: int, remembered: Memory):
    """The levels, and the first convolution over `length` frames with the mel bands as channels."""
    low, high = level_range(config)
    levels = keras.Input((None, 1, config.n_mels), name="levels")
    x = remembered(levels, "stem", length - stride)
    x = LevelConv2D(channels, (length, 1), (stride, 1), low=low, high=high, name="stem")(x)
    return levels, normalised(x, "stem")


def _scored(levels, x, n_words: int, dropout: float, memory: Memory, name: str, steps: int = 1) -> keras.Model:
    """The network from `levels` to `x`, then a score of each word by the last `steps` of `x`."""
    if dropout:
        x = layers.SpatialDropout2D(dropout, name="dropout")(x)
    if steps > 1:
        x = memory(x, HEAD, steps - 1)
    bias = keras.initializers.Constant(SCORE_OFFSET - _RARE)
    x = layers.Conv2D(n_words, (steps, 1), bias_initializer=bias, name=HEAD)(x)
    return keras.Model([levels, *memory.states], [layers.ReLU(name=_SCORES)(x), *memory.next], name=name)


def scoring(network: keras.Model) -> keras.Model:
    """The same layers with the scores as the only output, to train. Speech before does not lower them.

    In floating point they are not rectified, so that all have a gradient. With fake quantisation they are what the INT8
    form stores.
    """
    scores = network.get_layer(_SCORES if is_quantisation_aware(network) else HEAD).output
    return keras.Model(network.inputs, scores, name=network.name)


def set_by_name(network: keras.Model, source: keras.Model) -> keras.Model:
    """Copy the weights of the layers of `source`, which `network` has by the same names.

    Outputs that only `source` has, its last ones, are left out.
    """
    for layer in source.layers:
        if weights := layer.get_weights():
            own = network.get_layer(layer.name)
            if layer.name == HEAD:
                weights = [w[..., : v.shape[-1]] for w, v in zip(weights, own.weights, strict=True)]
            own.set_weights(weights)
    return network


def states(network: keras.Model, n: int) -> list[np.ndarray]:
    """The states with which `n` streams begin."""
    return [np.zeros((n, *state.shape[1:]), np.float32) for state in network.inputs[1:]]


def scores_of(network: keras.Model, levels: np.ndarray) -> np.ndarray:
    """Scores of sequences, each a stream that begins.

    Parameters
    ----------
    network : keras.Model
    levels : numpy.ndarray, shape (n, frames, 1, mels), float32

    Returns
    -------
    numpy.ndarray, shape (n, answers, n_words), float32
    """
    found = [
        network.predict_on_batch([part, *states(network, len(part))])[0][:, :, 0]
        for part in (levels[at : at + _CHUNK] for at in range(0, len(levels), _CHUNK))
    ]
    return np.concatenate(found)


def answer_frames(network: keras.Model) -> int:
    """Frames from one answer to the next."""
    frames = 240
    shapes = [(1, frames, *network.inputs[0].shape[2:]), *((1, *state.shape[1:]) for state in network.inputs[1:])]
    return frames // network.compute_output_shape(shapes)[0][1]


def transfer_clip(clip: keras.Model, known: tuple[str, ...], network: keras.Model, words: tuple[str, ...]) -> list[str]:
    """Copy the weights of a :func:`host_tools.networks.models.residual` network to a :func:`stream_residual` one.

    Kernels lose the taps of a future that the network with state does not hear. If it has more channels, the others do
    not count at first. A word's weights are those of its logit over that of ``unknown``, or of all words. Those of
    ``unknown``, which here is any speech, are of all words over silence. They are shared out over the answers that
    the scores gather.

    Parameters
    ----------
    clip : keras.Model
    known : tuple of str
        Labels of `clip`.
    network : keras.Model
        Its weights are set.
    words : tuple of str
        Labels of `network`.

    Returns
    -------
    list of str
        Words that the network of clips does not know.

    Raises
    ------
    TrainingError
        If the networks are not of these forms, or the one of clips has more channels.
    """
    source = {layer.name: layer.get_weights() for layer in clip.layers if layer.weights}
    targets = [layer for layer in network.layers if layer.weights and layer.name != HEAD]
    refused = TrainingError(f"{network.name} cannot start from {clip.name}: only from residual, of no more channels")
    if not source.keys() >= {layer.name for layer in targets}:
        raise refused
    for layer in targets:
        old, new = source[layer.name], layer.get_weights()
        if old[0].ndim == 4 and len(old[0]) != len(new[0]):
            old = [_heard_taps(layer.name, old[0])]
        if any(np.greater(w.shape, v.shape).any() for w, v in zip(old, new, strict=True)):
            raise refused
        layer.set_weights([_widened(w, v) for w, v in zip(old, new, strict=True)])
    kernel, _ = clip.layers[-1].get_weights()
    kernel = np.pad(kernel, ((0, network.get_layer(HEAD).kernel.shape[2] - len(kernel)), (0, 0)))
    of = {word: kernel[:, i] for i, word in enumerate(known)}
    spoken = np.mean([column for word, column in of.items() if word != SILENCE], axis=0)
    base = of.get(UNKNOWN, spoken)
    logits = {word: column - base for word, column in of.items()} | {UNKNOWN: spoken - of.get(SILENCE, 0)}
    steps = network.get_layer(HEAD).kernel.shape[0]
    columns = {
        word: (np.tile(logit / steps, (steps, 1)), SCORE_OFFSET - (0 if word == UNKNOWN else _RARE))
        for word, logit in logits.items()
    }
    return set_words(network, columns, words)


def _widened(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """`new` with the weights of `old` in its first channels, to which its other channels do not contribute."""
    out = new.copy()
    if old.ndim == 4:
        out[..., : old.shape[3]] = 0
    out[tuple(map(slice, old.shape))] = old
    return out


def _heard_taps(name: str, kernel: np.ndarray) -> np.ndarray:
    """The taps of a kernel of clips, ``same`` padded, that the same layer of the network with state hears."""
    number, part = int(name[len("block")]), name.rpartition("_")[2]
    block, first = _BLOCKS[number - 1], part == "conv1"
    # The clips' blocks 1, 3 and 5 begin with a stride of 2, which pads one more on the right.
    oldest = -(kernel.shape[0] // 2) + (first and number % 2)
    newest = 1 + 2 * (block.future // 2) if first and block.stride == 2 else block.future
    taps = np.arange(newest - block.length + 1, newest + 1) - oldest
    out = np.zeros((block.length, *kernel.shape[1:]), np.float32)
    held = (taps >= 0) & (taps < kernel.shape[0])
    out[held] = kernel[taps[held]]
    return out


def get_words(network: keras.Model, words: tuple[str, ...]) -> dict[str, tuple[np.ndarray, float]]:
    """The weights and the bias of each word."""
    kernel, bias = network.get_layer(HEAD).get_weights()
    return {word: (kernel[:, 0, :, i], float(bias[i])) for i, word in enumerate(words)}


def set_words(network: keras.Model, known: Mapping[str, tuple[np.ndarray, float]], words: tuple[str, ...]) -> list[str]:
    """Set the weights and the bias of each word that is known. Those of others begin near zero.

    Returns
    -------
    list of str
        The other words.
    """
    head = network.get_layer(HEAD)
    kernel, bias = head.get_weights()
    kernel *= _NEW
    for i, word in enumerate(words):
        if word in known:
            kernel[:, 0, :, i], bias[i] = known[word]
    head.set_weights([kernel, bias])
    return [word for word in words if word not in known]
