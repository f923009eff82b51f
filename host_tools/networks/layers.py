"""Parts that several networks share."""

from __future__ import annotations

import math

import keras
from keras import layers, ops

from kws_edge.config import FrontendConfig
from kws_edge.features.mel import window

__all__ = ["LevelConv2D", "Memory", "Span", "level_range", "normalised", "scaled"]


@keras.saving.register_keras_serializable("kws_edge")
class LevelConv2D(layers.Conv2D):
    """First convolution over levels in ``[low, high]``. It maps them to [-1, 1].

    The mapping is applied to the kernel: ``conv(x, k * s) - sum(k * s) * middle``. So it costs nothing in the converted
    model, whose input keeps the front end's levels. Padding is ``valid``: padded zeros would not be zero after the
    mapping.
    """

    def __init__(self, *args, low: float, high: float, **kwargs) -> None:
        kwargs.update(padding="valid", use_bias=False)
        super().__init__(*args, **kwargs)
        self.low, self.high = low, high

    def call(self, inputs):
        kernel = self.kernel * (2.0 / (self.high - self.low))
        outputs = ops.conv(inputs, kernel, strides=self.strides, padding="valid")
        return outputs - ops.sum(kernel, axis=(0, 1, 2)) * ((self.high + self.low) / 2)

    def get_config(self) -> dict:
        return {**super().get_config(), "low": self.low, "high": self.high}


@keras.saving.register_keras_serializable("kws_edge")
class Span(layers.Layer):
    """The steps from `start` to `stop` of a sequence, as Python slices it: negative numbers count from the end.

    Parameters
    ----------
    start : int
    stop : int or None
    """

    def __init__(self, start: int, stop: int | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.start, self.stop = start, stop

    def call(self, inputs):
        return inputs[:, self.start : self.stop]

    def get_config(self) -> dict:
        return {**super().get_config(), "start": self.start, "stop": self.stop}


class Memory:
    """The states of a network that is being made, and the next states, in the same order."""

    def __init__(self) -> None:
        self.states: list = []
        self.next: list = []

    def __call__(self, x, name: str, past: int):
        """`x` after its past, which is a state."""
        state = keras.Input((past, 1, x.shape[-1]), name=f"{name}_past")
        joined = layers.Concatenate(axis=1, name=f"{name}_joined")([state, x])
        self.states.append(state)
        self.next.append(Span(-past, name=f"{name}_next")(joined))
        return joined


def level_range(config: FrontendConfig) -> tuple[float, float]:
    """The range of levels: the front end's clips, or else silence and a full-scale tone."""
    amplitude = 32768 * config.sample_scale * float(window(config).sum()) / 2
    tone = amplitude**2 if config.spectrum == "power" else amplitude
    silence, full_scale = (
        config.log_gain * math.log(band + config.log_offset) + config.level_offset for band in (0, tone)
    )
    low = silence if config.level_min is None else config.level_min
    high = full_scale if config.level_max is None else config.level_max
    return low, high


def normalised(x, name: str):
    """`x` after batch norm and a rectifier."""
    return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_bn")(x))


def scaled(n: int, width: float) -> int:
    """`n` channels times `width`, as a multiple of eight."""
    return 8 * max(1, round(n * width / 8))
