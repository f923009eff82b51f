"""Check what kernels assume: operators that work value by value."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from kws_edge.model.tflite.node import ACTIVATIONS, Node, UnprovenError, WrongError

__all__ = ["binary", "elementwise", "leaky_relu", "requantise", "softmax"]


def elementwise(*types: str) -> Callable[[Node], None]:
    def check(node: Node) -> None:
        node.alike(*types)
        node.quantised()
        node.makes(node.inputs[0].shape)

    return check


def leaky_relu(node: Node) -> None:
    elementwise(*ACTIVATIONS)(node)
    if not abs(node.option(0, "f")) <= 2**8:
        raise UnprovenError(f"has a slope of {node.option(0, 'f'):g}")


def softmax(node: Node) -> None:
    node.types(("float32", "float32"), ("int8", "int8"), ("uint8", "uint8"))
    node.quantised()
    if not node.inputs[0].shape:
        raise WrongError("works on a single number")
    beta = node.option(0, "f")
    if not beta > 0:
        raise WrongError(f"has a beta of {beta:g}")
    if not 2**-8 <= beta <= 2**8:
        raise UnprovenError(f"has a beta of {beta:g}")
    for scale in node.inputs[0].scales:  # at most one scale
        if not 2**-16 <= beta * scale <= 2**8:
            raise UnprovenError(f"works on a scale of {scale:g}")
    node.makes(node.inputs[0].shape)


def binary(node: Node) -> None:
    node.alike(*ACTIVATIONS, "int32")
    if node.op.name not in ("MAXIMUM", "MINIMUM"):
        node.activation(0)
    if node.op.name == "MUL" and node.outputs[0].scales:
        node.multiplier(node.inputs[0], node.inputs[1], node.outputs[0])
    elif node.outputs[0].dtype != "int32":
        node.quantised()
    a, b = (t.shape for t in node.inputs)
    pairs = list(itertools.zip_longest(reversed(a), reversed(b), fillvalue=1))
    if any(m != n and 1 not in (m, n) for m, n in pairs):
        raise WrongError(f"joins {list(a)} and {list(b)}")
    node.makes([max(pair) for pair in reversed(pairs)])


def requantise(node: Node) -> None:
    types = node.inputs[0].dtype, node.outputs[0].dtype
    if node.op.name == "QUANTIZE":
        known = types[0] in ACTIVATIONS and types[1] in ("int8", "uint8")
    else:
        known = types[0] in ("int8", "uint8") and types[1] == "float32"
    if not known:
        raise UnprovenError(f"goes from {types[0]} to {types[1]}")
    node.quantised()
    node.makes(node.inputs[0].shape)
