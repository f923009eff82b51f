"""How TFLite Micro calls the operators that a model uses: in ``MicroMutableOpResolver``, and its source files."""

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
"""Where the file is not called after the operator."""


def kernel_sources(flat: FlatModel) -> list[str]:
    """Names of TFLite Micro's source files that have the kernels of `flat`'s operators, sorted."""
    return sorted({_SOURCES.get(operator, operator.lower()) for operator in flat.operators})


def resolver_calls(flat: FlatModel, name: str) -> list[str]:
    """Names of the resolver's methods that register exactly the operators of `flat`, sorted.

    Raises
    ------
    ModelError
        If TFLite Micro has no such operator, or this exporter does not know what it is called there.
    """
    unknown = [operator for operator in flat.operators if operator not in _METHODS]
    if unknown:
        raise ModelError(
            f"{name}: uses {', '.join(unknown)}, for which TFLite Micro has no kernel that kws-firmware knows; known "
            f"are {', '.join(_METHODS)}"
        )
    return sorted(_METHODS[operator] for operator in flat.operators)
