"""TFLite Micro's names of a model's operators: the methods of ``MicroMutableOpResolver``, and the source files."""

from __future__ import annotations

from kws_edge.errors import ModelError
from kws_edge.model.tflite import FlatModel

__all__ = ["kernel_sources", "resolver_calls"]

_METHODS = {
    name: f"Add{method}"
    for name, method in {
        "ADD": "Add",
        "AVERAGE_POOL_2D": "AveragePool2D",
        "CONCATENATION": "Concatenation",
        "CONV_2D": "Conv2D",
        "DEPTHWISE_CONV_2D": "DepthwiseConv2D",
        "DEQUANTIZE": "Dequantize",
        "EXPAND_DIMS": "ExpandDims",
        "FULLY_CONNECTED": "FullyConnected",
        "HARD_SWISH": "HardSwish",
        "LEAKY_RELU": "LeakyRelu",
        "LOGISTIC": "Logistic",
        "MAX_POOL_2D": "MaxPool2D",
        "MEAN": "Mean",
        "MUL": "Mul",
        "PACK": "Pack",
        "PAD": "Pad",
        "QUANTIZE": "Quantize",
        "RELU": "Relu",
        "RELU6": "Relu6",
        "RESHAPE": "Reshape",
        "SHAPE": "Shape",
        "SOFTMAX": "Softmax",
        "SQUEEZE": "Squeeze",
        "STRIDED_SLICE": "StridedSlice",
        "SUB": "Sub",
        "SUM": "Sum",
        "SVDF": "Svdf",
        "TANH": "Tanh",
    }.items()
}


_SOURCES = {
    "AVERAGE_POOL_2D": "pooling",
    "CONV_2D": "conv",
    "DEPTHWISE_CONV_2D": "depthwise_conv",
    "MAX_POOL_2D": "pooling",
    "MEAN": "reduce",
    "RELU": "activations",
    "RELU6": "activations",
    "SUM": "reduce",
}
"""Source files that are not named after their operator."""


def kernel_sources(flat: FlatModel) -> list[str]:
    """Names of TFLite Micro's source files with the kernels of `flat`'s operators, sorted."""
    return sorted({_SOURCES.get(operator, operator.lower()) for operator in flat.operators})


def resolver_calls(flat: FlatModel, name: str) -> list[str]:
    """Names of the resolver's methods that register the operators of `flat` and no others, sorted.

    Raises
    ------
    ModelError
        If TFLite Micro does not have an operator, or this exporter does not know its name there.
    """
    unknown = [operator for operator in flat.operators if operator not in _METHODS]
    if unknown:
        raise ModelError(
            f"{name}: uses {', '.join(unknown)}, for which TFLite Micro has no kernel that kws-firmware knows; known "
            f"are {', '.join(_METHODS)}"
        )
    return sorted(_METHODS[operator] for operator in flat.operators)
