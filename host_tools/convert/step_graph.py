"""A network with state as a step graph: an INT8 TFLite model that takes what is new and its own past.

Inputs are levels of one hop and the states; outputs are scores of each step and the next states, in the same order.
A state and its successor have one scale and zero point, so that the caller copies bytes. A stream begins with states
that are their zero points. Any hop gives the same bytes, up to a whole recording at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import keras
import numpy as np

from host_tools.convert.compact import compact
from host_tools.convert.quantize import convert
from host_tools.data.features import span_range
from host_tools.errors import TrainingError
from kws_edge.config import FrontendConfig
from kws_edge.model.step_graph import check_states
from kws_edge.model.tflite import FlatModel

__all__ = ["to_step_int8"]


def to_step_int8(
    model: keras.Model, streams: Sequence[np.ndarray], config: FrontendConfig, *, hop_frames: int = 10
) -> bytes:
    """Quantise a network with state to an INT8 step graph.

    Parameters
    ----------
    model : keras.Model
        As :func:`host_tools.networks.streaming.streaming` makes it.
    streams : sequence of numpy.ndarray, shape (frames, config.n_mels)
        Levels whose activations, and the states that they lead to, set the ranges.
    config : FrontendConfig
    hop_frames : int
        Frames that the graph is written for. Runtimes that resize inputs take others; ``kws-firmware`` writes others.

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

    shapes = [(1, *tensor.shape[1:]) for tensor in model.inputs[1:]]
    specs = [tf.TensorSpec((1, hop_frames, 1, config.n_mels), tf.float32, name="levels")]
    specs += [tf.TensorSpec(shape, tf.float32, name=t.name) for shape, t in zip(shapes, model.inputs[1:], strict=True)]
    step = tf.function(lambda *inputs: tuple(model(list(inputs), training=False)), input_signature=specs)
    step = step.get_concrete_function()

    def streamed() -> Iterator[list[np.ndarray]]:
        for number, levels in enumerate(streams):
            whole = len(levels) // hop_frames * hop_frames
            stream = np.array(levels[:whole], np.float32)[np.newaxis]  # whole hops, so that its last level is heard
            if not number:
                span_range(stream, config)
            states = [np.zeros(shape, np.float32) for shape in shapes]
            for at in range(0, whole, hop_frames):
                inputs = [stream[:, at : at + hop_frames, np.newaxis], *states]
                yield inputs
                states = [state.numpy() for state in step(*map(tf.constant, inputs))[1:]]

    converter = tf.lite.TFLiteConverter.from_concrete_functions([step])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = streamed
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    flatbuffer = compact(convert(converter))
    flat = FlatModel(flatbuffer, model.name)
    check_states(flat)
    floating = [tensor.name for tensor in flat.tensors if tensor.dtype.startswith("float")]
    if floating:
        raise TrainingError(f"{model.name}: {floating[0]} stayed in floating point; the model cannot run as INT8")
    return flatbuffer
