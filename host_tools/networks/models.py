"""Networks. Each is a small function that says its cost. Inputs are ``(frames, mels, 1)`` levels of a front end."""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
from keras import layers

from host_tools.errors import TrainingError
from host_tools.networks.layers import LevelConv2D, level_range, normalised, scaled
from host_tools.networks.own_network import build_own, is_own
from host_tools.networks.streaming import stream_micro, stream_residual, stream_word
from kws_edge.config import FrontendConfig

__all__ = ["MODELS", "build", "cnn_reference", "count_macs", "micro", "residual"]


_SECOND = 100
"""Frames."""


def _stem(config: FrontendConfig, channels: int, stride: int = 1):
    """The input, and the first convolution over 3 frames with the mel bands as channels."""
    frames, mels = config.feature_shape
    low, high = level_range(config)
    inputs = keras.Input((frames, mels, 1), name="levels")
    x = layers.Reshape((frames, 1, mels))(inputs)
    x = LevelConv2D(channels, (3, 1), (stride, 1), low=low, high=high, name="stem")(x)
    return inputs, normalised(x, "stem")


def _classified(inputs, x, n_classes: int, dropout: float, name: str) -> keras.Model:
    """The network from `inputs` to `x`, then an average over time and a softmax."""
    x = layers.Dropout(dropout)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(n_classes, activation="softmax", name="posteriors")(x), name=name)


def residual(config: FrontendConfig, n_classes: int, *, width: float = 1.0, dropout: float = 0.3) -> keras.Model:
    """Residual network of temporal convolutions with the mel bands as channels.

    A convolution of 3 frames is followed by six residual blocks of two 9-frame convolutions. The first, third and fifth
    block have stride 2. An average over time and a softmax follow. For ``logmel40`` and 12 classes, width 1 gives
    0.55 M parameters and 12 M multiply-accumulates, width 1.4 gives 1.07 M and 21 M. After TC-ResNet (Choi et al.,
    Temporal Convolution for Real-time Keyword Spotting on Mobile Devices, 2019).

    Every convolution ends in a rectifier, also before the sum. TFLite's kernels and TFLite Micro's round negative
    halves differently. Without negative values both give the same bits.

    Parameters
    ----------
    config : FrontendConfig
    n_classes : int
    width : float
        Factor on the number of channels.
    dropout : float
        Share of the averaged channels that training drops.
    """

    def conv(x, name, n, length, stride=1):
        x = layers.Conv2D(n, (length, 1), (stride, 1), padding="same", use_bias=False, name=name)(x)
        return normalised(x, name)

    inputs, x = _stem(config, scaled(48, width))
    for i, (n, stride) in enumerate(((48, 2), (48, 1), (64, 2), (64, 1), (96, 2), (96, 1)), 1):
        channels = scaled(n, width)
        skip = x if stride == 1 else conv(x, f"block{i}_skip", channels, 1, stride)
        y = conv(x, f"block{i}_conv1", channels, 9, stride)
        y = conv(y, f"block{i}_conv2", channels, 9)
        x = layers.Add(name=f"block{i}_sum")([skip, y])
    return _classified(inputs, x, n_classes, dropout, "residual")


def micro(config: FrontendConfig, n_classes: int, *, width: float = 1.0, dropout: float = 0.1) -> keras.Model:
    """Depthwise-separable temporal convolutions with residuals, small enough for a microcontroller.

    A convolution of 3 frames with stride 2 to 56 channels is followed by four residual blocks. Each block is twice a
    depthwise convolution of 9 frames and a pointwise one. An average over time and a softmax follow. For ``logmel40``,
    12 classes and width 1 it has 40,332 parameters and 1.7 M multiply-accumulates. After MatchboxNet (Majumdar and
    Ginsburg, 1D Time-Channel Separable Convolutional Neural Network Architecture for Speech Commands Recognition,
    2020).

    Every convolution ends in a rectifier, for the reason that :func:`residual` gives.

    Parameters
    ----------
    config : FrontendConfig
    n_classes : int
    width : float
        Factor on the number of channels.
    dropout : float
        Share of the averaged channels that training drops.
    """
    channels = scaled(56, width)
    inputs, x = _stem(config, channels, stride=2)
    for i in range(1, 5):
        y = x
        for j in (1, 2):
            name = f"block{i}_depthwise{j}"
            y = normalised(layers.DepthwiseConv2D((9, 1), padding="same", use_bias=False, name=name)(y), name)
            name = f"block{i}_pointwise{j}"
            y = normalised(layers.Conv2D(channels, 1, use_bias=False, name=name)(y), name)
        x = layers.Add(name=f"block{i}_sum")([x, y])
    return _classified(inputs, x, n_classes, dropout, "micro")


def cnn_reference(config: FrontendConfig, n_classes: int, *, width: float = 1.0, dropout: float = 0.2) -> keras.Model:
    """The reference system's network: three blocks of two 3x3 convolutions over time and frequency.

    The blocks have 64, 128 and 256 filters. The first convolution has stride 2. Batch norm and ReLU follow each
    convolution. Max pooling and spatial dropout follow each block. The global average, 256 units and a softmax come
    last. For the ``reference`` front end, 36 classes and width 1 it has 1,221,988 parameters and 303 M
    multiply-accumulates.

    Parameters
    ----------
    config : FrontendConfig
    n_classes : int
    width : float
        Factor on the number of channels.
    dropout : float
        Share of the channels that training drops after each block.
    """
    low, high = level_range(config)
    inputs = keras.Input((*config.feature_shape, 1), name="levels")
    x = layers.Rescaling(2 / (high - low), -(high + low) / (high - low))(inputs) if config.level_max else inputs
    for i, filters in enumerate((64, 128, 256), 1):
        for j in (1, 2):
            name = f"block{i}_conv{j}"
            stride = 2 if i == j == 1 else 1
            x = layers.Conv2D(round(filters * width), 3, stride, padding="same", use_bias=False, name=name)(x)
            x = normalised(x, name)
        x = layers.MaxPooling2D()(x)
        x = layers.SpatialDropout2D(dropout)(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(round(256 * width), activation="relu", name="dense")(x)
    outputs = layers.Dense(n_classes, activation="softmax", name="posteriors")(x)
    return keras.Model(inputs, outputs, name="cnn_reference")


MODELS: dict[str, Callable[..., keras.Model]] = {
    "residual": residual,
    "micro": micro,
    "cnn_reference": cnn_reference,
    "stream_residual": stream_residual,
    "stream_micro": stream_micro,
    "stream_word": stream_word,
}


def count_macs(model: keras.Model) -> int:
    """Multiply-accumulates of one inference, of a network with state in a second of 100 frames.

    Those of convolutions and dense layers count.
    """
    macs = 0
    for layer in _timed(model).layers:
        if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
            macs += math.prod(layer.output.shape[1:3]) * math.prod(layer.kernel.shape)
        elif isinstance(layer, layers.Dense):
            macs += math.prod(layer.kernel.shape)
    return macs


def _timed(model: keras.Model) -> keras.Model:
    """The same network with a fixed number of frames, as a network with state takes any."""
    if len(model.inputs) == 1:
        return model
    levels, *states = model.inputs
    fixed = keras.Input((_SECOND, *levels.shape[2:]), name=levels.name)
    return keras.models.clone_model(model, [fixed, *(keras.Input(s.shape[1:], name=s.name) for s in states)])


def build(name: str, config: FrontendConfig, n_classes: int, **options) -> keras.Model:
    """The network `name` of :data:`MODELS`, or your own; see :mod:`host_tools.networks.own_network`.

    Raises
    ------
    TrainingError
        If no network has that name, or your own cannot be used.
    """
    if is_own(name):
        return build_own(name, config, n_classes, **options)
    if name not in MODELS:
        raise TrainingError(f"unknown model {name!r}; known are {', '.join(MODELS)}, or your own as MODULE:FUNCTION")
    return MODELS[name](config, n_classes, **options)
