"""microWakeWord's form of a model: one word of a step graph, for ESPHome's ``micro_wake_word`` and pymicro-wakeword.

Each inference takes the frames since the one before and gives the probability of the word. The states of the network
are variables inside of the file.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from host_tools.convert.compact import opened, written
from host_tools.convert.internal_state import StatefulGraph
from host_tools.errors import TrainingError
from kws_edge.model.tflite import FlatModel, verify

__all__ = ["MOST_VARIABLES", "OPERATORS", "to_micro_wake_word"]

_REGISTERED = """
CALL_ONCE VAR_HANDLE RESHAPE READ_VARIABLE STRIDED_SLICE CONCATENATION ASSIGN_VARIABLE CONV_2D MUL ADD MEAN
FULLY_CONNECTED LOGISTIC QUANTIZE DEPTHWISE_CONV_2D AVERAGE_POOL_2D MAX_POOL_2D PAD PACK SPLIT_V
"""
OPERATORS = frozenset(_REGISTERED.split())
"""Operators that ESPHome's ``micro_wake_word`` registers."""
MOST_VARIABLES = 20
"""Variables for which it has room."""
_LEVELS, _ZERO = 256, -128
"""Levels of a probability, and the INT8 value of 0."""


def to_micro_wake_word(flatbuffer: bytes, column: int, offset: float, name: str) -> bytes:
    """Convert a step graph to microWakeWord's form of one of its words.

    The input is INT8 of shape (1, frames, mels). The output is the probability, UINT8 of shape (1, 1) with a scale of
    1/256. Its logit has the steps of the step graph's scores, or a little larger ones, so that `offset` is a whole
    number of them.

    Parameters
    ----------
    flatbuffer : bytes
        As :func:`host_tools.convert.step_graph.to_step_int8` gives it for a hop of one answer.
    column : int
        Which output is the word's.
    offset : float
        What is taken from a score before the sigmoid.
    name : str
        Name of the model in error messages.

    Returns
    -------
    bytes

    Raises
    ------
    TrainingError
        If the scores never reach `offset`, or the graph has more variables or other operators than devices take.
    """
    stateful = StatefulGraph(opened(flatbuffer))
    _answer(stateful, column, offset, name)
    graph = stateful.graph
    levels = graph.tensors[graph.inputs[0]]
    scale, zero_point = float(levels.quantization.scale[0]), int(levels.quantization.zeroPoint[0])
    _, frames, _, mels = map(int, levels.shape)
    stateful.keep_states()
    given = stateful.tensor("levels", (1, frames, mels), scale=scale, zero_point=zero_point)
    levels.name = b"frames"
    graph.operators.insert(0, stateful.reshaped(given, graph.inputs[0]))
    graph.inputs = np.array([given], np.int32)
    converted = written(stateful.model)
    _check(FlatModel(converted, name))
    return converted


def _answer(stateful: StatefulGraph, column: int, offset: float, name: str) -> None:
    """Replace the scores by the probability of one word."""
    graph = stateful.graph
    scores = int(graph.outputs[0])
    (head,) = (op for op in graph.operators if scores in op.outputs)
    assert stateful.is_a(head, "CONV_2D"), "scores of networks with state are a convolution's"
    tensor, (values, kernel, bias) = graph.tensors[scores], (graph.tensors[i] for i in head.inputs)
    scale = float(tensor.quantization.scale[0])
    steps = math.floor(offset / scale)  # from a score of 0 to a probability of a half
    if not 0 < steps < _LEVELS:
        raise TrainingError(
            f"{name}: its scores end at {scale * (_LEVELS - 1):.3g}, and a word needs {offset:g}: it would never be"
            " heard"
        )
    taken = slice(column, column + 1)
    for one in (kernel, bias):
        one.quantization.scale = one.quantization.scale[taken if len(one.quantization.scale) > 1 else slice(None)]
        one.quantization.zeroPoint = np.zeros(1, np.int64)
    weights = _values(stateful.model, kernel, np.int8)[taken]
    unit = float(values.quantization.scale[0]) * float(kernel.quantization.scale[0])
    shift = _values(stateful.model, bias, np.int32)[taken].astype(np.int64) - round(offset / unit)
    if abs(shift[0]) > np.iinfo(np.int32).max:
        raise TrainingError(f"{name}: its last weights are too small for the sum of 32 bits; train it longer")
    for one, new in ((kernel, weights), (bias, shift.astype(np.int32))):
        one.shape, one.buffer = np.array(new.shape, np.int32), stateful.buffer(new)
    head.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.NONE
    tensor.shape, tensor.name = np.ones(4, np.int32), b"logit"
    tensor.quantization.scale = np.array([offset / steps], np.float32)
    tensor.quantization.zeroPoint = np.array([_ZERO + steps], np.int64)
    logit = stateful.tensor("flat", (1, 1), scale=offset / steps, zero_point=_ZERO + steps)
    likely = stateful.tensor("likely", (1, 1), scale=1 / _LEVELS, zero_point=_ZERO)
    probability = stateful.tensor("probability", (1, 1), schema.TensorType.UINT8, scale=1 / _LEVELS)
    graph.operators += [
        stateful.reshaped(scores, logit),
        stateful.operator("LOGISTIC", [logit], [likely]),
        stateful.operator("QUANTIZE", [likely], [probability], schema.QuantizeOptionsT()),
    ]
    graph.outputs[0] = probability


def _values(model: Any, tensor: Any, dtype: type) -> np.ndarray:
    return np.frombuffer(bytes(model.buffers[tensor.buffer].data), dtype).reshape(tensor.shape)


def _check(flat: FlatModel) -> None:
    """Raise a TrainingError if devices cannot run the model."""
    verify(flat)
    if other := sorted({*flat.operators} - OPERATORS):
        raise TrainingError(f"{flat.name}: has the operator {other[0]}, which ESPHome's micro_wake_word does not run")
    variables = sum(op.name == "VAR_HANDLE" for op in flat.graphs[0].operators)
    if variables > MOST_VARIABLES:
        raise TrainingError(
            f"{flat.name}: keeps {variables} states, and ESPHome's micro_wake_word has room for {MOST_VARIABLES}: take"
            " a network with fewer blocks, such as stream_word"
        )
