"""An operator with its tensors, and checks of them.

A check raises :class:`WrongError` if no kernel could run the operator. It raises :class:`UnprovenError` if the form may
be correct but is not known here. For forms that keyword models do not use, prefer UnprovenError.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, cast

from kws_edge.model.tflite.flat_model import FlatModel, Graph, Operator, Tensor

__all__ = ["ACTIVATIONS", "Node", "TypesError", "UnprovenError", "WrongError", "matches"]

_WINDOW = 4096  # the largest stride, dilation, or side of a pooling window
_RELU6, _SIGN_BIT = 3, 5  # the last fused activation that every kernel knows, and the last one of all
ACTIVATIONS = ("float32", "int8", "uint8")
_MOVED = (*ACTIVATIONS, "int16", "int32", "int64")
_INDICES = {"int32": "i", "int64": "q"}


class WrongError(Exception):
    """No kernel can run the operator."""


class TypesError(WrongError):
    """The values that an operator moves would change their type, so that it would write past their end."""


class UnprovenError(Exception):
    """The operator has a form that is not known here."""


def matches(found: Sequence[str | None], row: Sequence[str]) -> bool:
    """Whether the types match a row, ignoring missing tensors."""
    return len(found) == len(row) and all(f in (None, r) for f, r in zip(found, row, strict=True))


class Node:
    """An operator with its tensors.

    Attributes
    ----------
    given : tuple of Tensor or None
        All inputs; None stands for an optional input that is missing.
    inputs, outputs : tuple of Tensor
        The required inputs, and the outputs. :meth:`optional` gives the other inputs.
    work, scratch : int
        Operations of the kernel beyond multiply-accumulates, and its bytes beyond the tensors.
    """

    def __init__(self, flat: FlatModel, graph: Graph, op: Operator) -> None:
        self.op = op
        self.given = tuple(graph.tensors[i] if i >= 0 else None for i in op.inputs)
        self.inputs = cast("tuple[Tensor, ...]", self.given)
        self.outputs = tuple(graph.tensors[i] for i in op.outputs)
        self.work = self.scratch = 0
        self._data = flat.data

    def optional(self, i: int) -> Tensor | None:
        """Input `i`, or None if it is missing."""
        return self.given[i] if i < len(self.given) else None

    def option(self, field: int, kind: str, default: Any = 0) -> Any:
        """An option by its field number."""
        return self.op.options.scalar(field, kind, default) if self.op.options else default

    def numbers(self, i: int) -> tuple[int, ...]:
        """The values of input `i`, which must be a few constant whole numbers."""
        tensor = self.inputs[i]
        kind = _INDICES.get(tensor.dtype)
        if kind is None:
            raise WrongError(f"has {tensor.dtype} for whole numbers")
        if not tensor.data:
            raise UnprovenError("works on sizes that are computed as it runs")
        if tensor.elements > 64:
            raise WrongError(f"has {tensor.elements} numbers where a few are expected")
        return struct.unpack_from(f"<{tensor.elements}{kind}", self._data, tensor.data[0])

    def axes(self, numbers: Sequence[int], rank: int) -> tuple[int, ...]:
        """Convert negative numbers of dimensions, which count from the end, to positive ones."""
        if not all(-rank <= n < rank for n in numbers):
            raise WrongError(f"has the axis {numbers} for {rank} dimensions")
        return tuple(n % rank for n in numbers)

    def types(self, *allowed: Sequence[str]) -> None:
        """Check that the types of inputs and outputs, in turn, are one of the rows of `allowed`."""
        found = tuple(t.dtype if t else None for t in (*self.given, *self.outputs))
        if not any(matches(found, row) for row in allowed):
            raise UnprovenError(f"works on {', '.join(map(str, found))}")

    def alike(self, *allowed: str) -> None:
        """Check that inputs and outputs have one type."""
        self.moves(*self.inputs, allowed=allowed)

    def moves(self, *tensors: Tensor, allowed: Sequence[str] = _MOVED) -> None:
        """Check that `tensors` and the outputs have one type, because values are moved unchanged."""
        types = [t.dtype for t in (*tensors, *self.outputs)]
        if len(set(types)) > 1:
            raise TypesError(f"goes from {', '.join(types[:-1])} to {types[-1]}")
        if types[0] not in allowed:
            raise UnprovenError(f"works on {types[0]}")

    def makes(self, shape: Sequence[int], i: int = 0) -> None:
        """Check that output `i` has this shape."""
        if tuple(shape) != self.outputs[i].shape:
            raise WrongError(f"makes {list(shape)}, but its output is {list(self.outputs[i].shape)}")

    def rank(self, tensor: Tensor, n: int) -> None:
        if len(tensor.shape) != n:
            raise WrongError(f"works on {n} dimensions, not on {list(tensor.shape)}")

    def constant(self, i: int) -> Tensor:
        tensor = self.inputs[i]
        if not tensor.data:
            raise UnprovenError(f"computes its input {i} as it runs")
        return tensor

    def activation(self, field: int) -> None:
        fused = self.option(field, "b")
        if not 0 <= fused <= _SIGN_BIT:
            raise WrongError(f"has a fused activation of number {fused}")
        if fused > _RELU6:
            raise UnprovenError("has a fused activation of a rare kind")

    def between(self, what: str, value: int, high: int = _WINDOW) -> int:
        if not 1 <= value <= high:
            raise WrongError(f"has a {what} of {value}")
        return value

    def quantised(self) -> None:
        """Check that every quantised tensor of values has one scale, and that scales do not change absurdly."""
        tensors = [t for t in (*self.given, *self.outputs) if t and t.dtype in ("int8", "uint8", "int16")]
        for tensor in tensors:
            if len(tensor.scales) != 1:
                raise WrongError(f"works on {tensor.dtype} with {len(tensor.scales)} scales")
        scales = [t.scales[0] for t in tensors]
        if scales and max(scales) > 2**16 * min(scales):
            raise UnprovenError(f"goes from a scale of {min(scales):g} to one of {max(scales):g}")

    def multiplier(self, values: Tensor, weights: Tensor, output: Tensor) -> None:
        """Check that the scale of the products fits the output's."""
        if len(values.scales) != 1 or len(output.scales) != 1 or not weights.scales:
            raise WrongError("works on values without a scale")
        scales = values.scales[0], max(weights.scales), output.scales[0]
        if scales[0] * scales[1] >= 256 * scales[2]:
            raise UnprovenError(f"goes from scales of {scales[0]:g} and {scales[1]:g} to {scales[2]:g}")
