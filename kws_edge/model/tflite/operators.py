"""The operators that keyword models use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kws_edge.model.tflite.layer_checks import conv, depthwise, fully_connected, pool, svdf
from kws_edge.model.tflite.node import ACTIVATIONS, Node
from kws_edge.model.tflite.shape_checks import (
    concatenation,
    expand_dims,
    pack,
    pad,
    reduce,
    reshape,
    shape,
    split,
    squeeze,
    strided_slice,
    transpose,
)
from kws_edge.model.tflite.value_checks import binary, elementwise, leaky_relu, requantise, softmax

__all__ = ["LISTED", "Form"]


@dataclass(frozen=True)
class Form:
    """The form of an operator."""

    options: int
    """Kind of the options."""
    inputs: range
    """Allowed numbers of inputs."""
    check: Callable[[Node], None] | None
    """Check of the operator. It is None for variables and calls, which depend on other operators."""
    outputs: range = range(1, 2)
    optional: tuple[int, ...] = ()
    """Numbers of the inputs that may be missing."""
    required: bool = False
    """Whether the operator needs options."""


_none, _one, _two, _many = range(1), range(1, 2), range(2, 3), range(1, 65)
LISTED = {
    "ADD": Form(11, _two, binary),
    "ASSIGN_VARIABLE": Form(113, _two, None, outputs=_none),
    "AVERAGE_POOL_2D": Form(5, _one, pool, required=True),
    "CALL_ONCE": Form(103, _none, None, outputs=_none, required=True),
    "CONCATENATION": Form(10, _many, concatenation, required=True),
    "CONV_2D": Form(1, range(2, 4), conv, optional=(2,), required=True),
    "DEPTHWISE_CONV_2D": Form(2, range(2, 4), depthwise, optional=(2,), required=True),
    "DEQUANTIZE": Form(38, _one, requantise),
    "EXPAND_DIMS": Form(52, _two, expand_dims),
    "FULLY_CONNECTED": Form(8, range(2, 4), fully_connected, optional=(2,), required=True),
    "HARD_SWISH": Form(91, _one, elementwise(*ACTIVATIONS)),
    "LEAKY_RELU": Form(75, _one, leaky_relu, required=True),
    "LOGISTIC": Form(0, _one, elementwise(*ACTIVATIONS)),
    "MAXIMUM": Form(39, _two, binary),
    "MAX_POOL_2D": Form(5, _one, pool, required=True),
    "MEAN": Form(27, _two, reduce, required=True),
    "MINIMUM": Form(39, _two, binary),
    "MUL": Form(21, _two, binary),
    "PACK": Form(59, _many, pack, required=True),
    "PAD": Form(22, _two, pad),
    "QUANTIZE": Form(89, _one, requantise),
    "READ_VARIABLE": Form(112, _one, None),
    "REDUCE_MAX": Form(27, _two, reduce, required=True),
    "RELU": Form(0, _one, elementwise(*ACTIVATIONS)),
    "RELU6": Form(0, _one, elementwise(*ACTIVATIONS)),
    "RELU_N1_TO_1": Form(0, _one, elementwise(*ACTIVATIONS)),
    "RESHAPE": Form(17, range(1, 3), reshape),
    "SHAPE": Form(55, _one, shape, required=True),
    "SOFTMAX": Form(9, _one, softmax, required=True),
    "SPLIT": Form(35, _two, split, outputs=_many, required=True),
    "SPLIT_V": Form(79, range(3, 4), split, outputs=_many, required=True),
    "SQUEEZE": Form(30, _one, squeeze),
    "STRIDED_SLICE": Form(32, range(4, 5), strided_slice, required=True),
    "SUB": Form(28, _two, binary),
    "SUM": Form(27, _two, reduce, required=True),
    "SVDF": Form(6, range(5, 6), svdf, optional=(3,), required=True),
    "TANH": Form(0, _one, elementwise(*ACTIVATIONS)),
    "TRANSPOSE": Form(26, _two, transpose),
    "VAR_HANDLE": Form(111, _none, None, required=True),
}
"""The operators that are checked, by name."""
