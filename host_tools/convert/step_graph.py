"""A network with state as a step graph: an INT8 TFLite model that takes what is new and its own past.

Inputs are levels of one hop and the states; outputs are scores of each step and the next states, in the same order.
A state and its successor have one scale and zero point, so that the caller copies bytes. A stream begins with states
that are their zero points. Any hop gives the same bytes, up to a whole recording at once.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Iterator, Sequence

import keras
import numpy as np

from host_tools.convert.compact import compact
from host_tools.convert.converter import check_integer, convert
from host_tools.data.features import span_range
from host_tools.networks.qat import export_model, is_quantisation_aware
from host_tools.networks.streaming import SCORE_OFFSET, answer_frames, states
from kws_edge.config import FrontendConfig, StepConfig
from kws_edge.model.step_graph import check_states
from kws_edge.model.tflite import FlatModel

__all__ = ["step_of", "to_step_float", "to_step_int8"]

_HOP_MS = 100.0


def to_step_int8(
    model: keras.Model, streams: Sequence[np.ndarray], config: FrontendConfig, *, hop_frames: int | None = None
) -> bytes:
    """Quantise a network with state to an INT8 step graph.

    Parameters
    ----------
    model : keras.Model
        A network of :mod:`host_tools.networks.streaming`, in floating point or with fake quantisation.
    streams : sequence of numpy.ndarray, shape (frames, config.n_mels)
        Levels whose activations, and the states that they lead to, set the ranges. A network with fake quantisation has
        its own ranges and needs none.
    config : FrontendConfig
    hop_frames : int, optional
        Frames that the graph is written for, by default about 100 ms. Runtimes that resize inputs take others;
        ``kws-firmware`` writes others.

    Returns
    -------
    bytes
        A TFLite flatbuffer that LiteRT, tflite-runtime 2.14 and TFLite Micro run.

    Raises
    ------
    TrainingError
        If a part stays in floating point.
    ModelError
        If a state and its successor differ in scale or shape.
    """
    import tensorflow as tf

    aware = is_quantisation_aware(model)
    answer = answer_frames(model)
    hop_frames = hop_frames or answer * max(1, math.ceil(_HOP_MS / config.hop_ms / answer - 0.5))
    step = _step(export_model(model) if aware else model, hop_frames)
    converter = _converter(step)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if not aware:
        converter.representative_dataset = functools.partial(
            _streamed, step, hop_frames, states(model, 1), streams, config
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    flatbuffer = compact(convert(converter))
    flat = FlatModel(flatbuffer, model.name)
    check_integer(flat)
    check_states(flat)
    return flatbuffer


def to_step_float(model: keras.Model) -> bytes:
    """Convert a network with state to a step graph in floating point, to compare with its INT8 form."""
    return convert(_converter(_step(model, answer_frames(model))))


def step_of(model: keras.Model) -> StepConfig | None:
    """How a network answers in streams; None for a network of clips."""
    return StepConfig(frames=answer_frames(model), score_offset=SCORE_OFFSET) if len(model.inputs) > 1 else None


def _converter(step):
    import tensorflow as tf

    advice = logging.getLogger("absl")
    level = advice.level
    advice.setLevel(logging.ERROR)  # that the model be given too, which would put inputs in another order
    try:
        return tf.lite.TFLiteConverter.from_concrete_functions([step])
    finally:
        advice.setLevel(level)


def _step(model: keras.Model, hop_frames: int):
    """The network as a concrete function of the levels of a hop and the states."""
    import tensorflow as tf

    levels, *past = model.inputs
    specs = [tf.TensorSpec((1, hop_frames, *levels.shape[2:]), tf.float32, name="levels")]
    specs += [tf.TensorSpec((1, *state.shape[1:]), tf.float32, name=state.name) for state in past]
    step = tf.function(lambda *inputs: tuple(model(list(inputs), training=False)), input_signature=specs)
    return step.get_concrete_function()


def _streamed(
    step, hop_frames: int, begin: Sequence[np.ndarray], streams: Sequence[np.ndarray], config: FrontendConfig
) -> Iterator[list[np.ndarray]]:
    """The inputs of `step` when it hears streams: hops of levels, and the states that they lead to from `begin` on."""
    import tensorflow as tf

    for number, levels in enumerate(streams):
        whole = len(levels) // hop_frames * hop_frames
        stream = np.array(levels[:whole], np.float32)[np.newaxis]  # whole hops, so that its last level is heard
        if not number:
            span_range(stream, config)
        past = begin
        for at in range(0, whole, hop_frames):
            inputs = [stream[:, at : at + hop_frames, np.newaxis], *past]
            yield inputs
            past = [state.numpy() for state in step(*map(tf.constant, inputs))[1:]]
