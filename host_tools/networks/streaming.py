"""A network with state: temporal convolutions that take what is new and their own past, and answer at every step.

The same Keras model is the whole-sequence form and the step form: its inputs are levels of any number of steps and the
past of each convolution; its outputs are scores for each step and the past to give next. Zeros are the past of a
stream that begins.
"""

from __future__ import annotations

import keras
from keras import layers

from host_tools.networks.models import LevelConv2D, level_range
from kws_edge.config import FrontendConfig

__all__ = ["SCORE_OFFSET", "STEP_FRAMES", "streaming"]

STEP_FRAMES = 2
"""Frames for each answer."""
SCORE_OFFSET = 8.0
"""A word's posterior is ``sigmoid(score - SCORE_OFFSET)``."""
_STEM_FRAMES = 5
_BLOCK_STEPS = 9


def streaming(
    config: FrontendConfig, n_words: int, *, channels: int = 128, blocks: int = 10, dropout: float = 0.0
) -> keras.Model:
    """Depthwise-separable temporal convolutions with residuals, which keep their past in states.

    One convolution of 5 frames with stride 2, then blocks of a depthwise convolution of 9 steps, a pointwise one and
    their sum with the block's input at the same step; a score for each word. Nothing looks ahead. For ``logmel40``,
    10 words, 128 channels and 10 blocks: 0.20 M parameters, 10.1 M multiply-accumulates a second, 10.4 kB of state,
    1.65 s of the past in each answer.

    Every convolution ends in a rectifier, before the sum and at the scores too: TFLite's kernels round negative halves
    otherwise than TFLite Micro's, and without negative values both give the same bits.

    Parameters
    ----------
    config : FrontendConfig
    n_words : int
    channels : int
    blocks : int
    dropout : float
        Share of the channels that training drops before the scores, each for a whole sequence.

    Returns
    -------
    keras.Model
        Of inputs ``levels``, shape (n, frames, 1, mels), with an even number of frames, and states, shape
        (n, past, 1, channels of the layer's input); of outputs ``scores``, shape (n, frames / 2, 1, n_words), and
        the next states, in the same order.
    """
    low, high = level_range(config)
    levels = keras.Input((None, 1, config.n_mels), name="levels")
    states, next_states = [], []

    def remembered(x, name: str, past: int):
        """`x` after its past, which is a state."""
        state = keras.Input((past, 1, x.shape[-1]), name=f"{name}_past")
        states.append(state)
        joined = layers.Concatenate(axis=1, name=f"{name}_joined")([state, x])
        next_states.append(joined[:, -past:])
        return joined

    def normalised(x, name: str):
        x = layers.BatchNormalization(name=f"{name}_norm")(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    x = remembered(levels, "stem", _STEM_FRAMES - STEP_FRAMES)
    stem = LevelConv2D(channels, (_STEM_FRAMES, 1), (STEP_FRAMES, 1), low=low, high=high, name="stem")
    x = normalised(stem(x), "stem")
    for i in range(1, blocks + 1):
        name = f"block{i}"
        y = remembered(x, name, _BLOCK_STEPS - 1)
        y = layers.DepthwiseConv2D((_BLOCK_STEPS, 1), use_bias=False, name=f"{name}_depthwise")(y)
        y = normalised(y, f"{name}_depthwise")
        y = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_pointwise")(y)
        x = layers.Add(name=f"{name}_sum")([x, normalised(y, f"{name}_pointwise")])
    if dropout:
        x = layers.SpatialDropout2D(dropout)(x)
    bias = keras.initializers.Constant(SCORE_OFFSET - 4.0)  # words are rare
    x = layers.Conv2D(n_words, 1, bias_initializer=bias, name="words")(x)
    scores = layers.ReLU(name="scores")(x)
    return keras.Model([levels, *states], [scores, *next_states], name="streaming")
