"""Operators that keyword models use, and what the runtimes' kernels take for granted about each.

A check raises :class:`WrongError` for what no kernel could do, and :class:`UnprovenError` for a form that may be well,
but is not known here. Forms that keyword models do not use are best left to the latter.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kws_edge.model.tflite.flat_model import FlatModel, Graph, Operator, Tensor

__all__ = ["LISTED", "Form", "Node", "TypesError", "UnprovenError", "WrongError"]

_WINDOW = 4096  # the largest stride, dilation, or side of a pooling window
_RELU6, _SIGN_BIT = 3, 5  # the last fused activation that every kernel knows, and the last that there is
_ACTIVATIONS = ("float32", "int8", "uint8")
_MOVED = (*_ACTIVATIONS, "int16", "int32", "int64")
_INDICES = {"int32": "i", "int64": "q"}


class WrongError(Exception):
    """What an operator cannot do."""


class TypesError(WrongError):
    """Values that an operator moves, or works on as they are, change their type: it would write past their end."""


class UnprovenError(Exception):
    """What an operator does in a way that is not known here."""


def _matches(found: Sequence[str | None], row: Sequence[str]) -> bool:
    """Whether types are those of a row, but for what is not there."""
    return len(found) == len(row) and all(f in (None, r) for f, r in zip(found, row, strict=True))


class Node:
    """An operator with its tensors.

    Attributes
    ----------
    inputs, outputs : tuple of Tensor
        None in place of an optional input that is not there.
    work, scratch : int
        Operations beyond multiply-accumulates, and bytes beyond its tensors, that its kernel takes.
    """

    def __init__(self, flat: FlatModel, graph: Graph, op: Operator) -> None:
        self.op = op
        self.inputs = tuple(graph.tensors[i] if i >= 0 else None for i in op.inputs)
        self.outputs = tuple(graph.tensors[i] for i in op.outputs)
        self.work = self.scratch = 0
        self._data = flat.data

    def option(self, field: int, kind: str, default=0):
        """An option by its field number."""
        return self.op.options.scalar(field, kind, default) if self.op.options else default

    def numbers(self, i: int) -> tuple[int, ...]:
        """The values of input `i`: a few constant whole numbers."""
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
        """Numbers of dimensions, those that count from the end made positive."""
        if not all(-rank <= n < rank for n in numbers):
            raise WrongError(f"has the axis {numbers} for {rank} dimensions")
        return tuple(n % rank for n in numbers)

    def types(self, *allowed: Sequence[str]) -> None:
        """The types of inputs and outputs, in turn, are one of the rows of `allowed`."""
        found = tuple(t.dtype if t else None for t in (*self.inputs, *self.outputs))
        if not any(_matches(found, row) for row in allowed):
            raise UnprovenError(f"works on {', '.join(map(str, found))}")

    def alike(self, *allowed: str) -> None:
        """Inputs and outputs are of one type."""
        self.moves(*self.inputs, allowed=allowed)

    def moves(self, *tensors: Tensor, allowed: Sequence[str] = _MOVED) -> None:
        """What is in `tensors` goes to the outputs in its own type."""
        types = [t.dtype for t in (*tensors, *self.outputs)]
        if len(set(types)) > 1:
            raise TypesError(f"goes from {', '.join(types[:-1])} to {types[-1]}")
        if types[0] not in allowed:
            raise UnprovenError(f"works on {types[0]}")

    def makes(self, shape: Sequence[int], i: int = 0) -> None:
        """Output `i` is of this shape."""
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
        """Every value of 8 bits, and its like, has one scale, and from one to the next is no absurd step."""
        tensors = [t for t in (*self.inputs, *self.outputs) if t and t.dtype in ("int8", "uint8", "int16")]
        for tensor in tensors:
            if len(tensor.scales) != 1:
                raise WrongError(f"works on {tensor.dtype} with {len(tensor.scales)} scales")
        scales = [t.scale for t in tensors]
        if scales and max(scales) > 2**16 * min(scales):
            raise UnprovenError(f"goes from a scale of {min(scales):g} to one of {max(scales):g}")

    def multiplier(self, values: Tensor, weights: Tensor, output: Tensor) -> None:
        """The scale of products fits the output's."""
        if len(values.scales) != 1 or len(output.scales) != 1 or not weights.scales:
            raise WrongError("works on values without a scale")
        if values.scale * max(weights.scales) >= 256 * output.scale:
            raise UnprovenError(f"goes from scales of {values.scale:g} and {max(weights.scales):g} to {output.scale:g}")


_PRODUCTS = (
    ("float32", "float32", "float32", "float32"),
    ("int8", "int8", "int32", "int8"),
    ("uint8", "uint8", "int32", "uint8"),
)
"""Types of values, weights, bias and output."""


def _product(node: Node, channels: int, axis: int) -> None:
    """Values, weights, bias: types, quantisation, and the number of outputs."""
    values, weights, output = *node.inputs[:2], node.outputs[0]
    found = [t.dtype if t else None for t in (*node.inputs, *[None] * (3 - len(node.inputs)), output)]
    hybrid = found[0] == found[3] == "float32" and found[1] == "int8" and found[2] in (None, "float32")
    if not hybrid and not any(_matches(found, row) for row in _PRODUCTS):
        raise UnprovenError(f"works on {', '.join(filter(None, found))}")
    node.constant(1)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias:
        node.constant(2)
        if bias.shape != (channels,):
            raise WrongError(f"has a bias of {list(bias.shape)} for {channels} channels")
    elif node.op.name != "FULLY_CONNECTED":
        raise UnprovenError("has no bias")  # some kernels read it all the same
    if weights.dtype == "float32":
        return
    if len(weights.scales) not in (1, channels) or (len(weights.scales) > 1 and weights.axis != axis):
        raise WrongError(f"has {len(weights.scales)} scales along dimension {weights.axis} for {channels} channels")
    if weights.dtype == "int8" and any(weights.zero_points):
        raise UnprovenError("has weights with a zero point")
    if weights.dtype == "uint8" and len(weights.scales) > 1:
        raise UnprovenError("has uint8 weights with several scales")
    if not hybrid:
        node.multiplier(values, weights, output)


def _extent(node: Node, size: int, window: int, stride: int, dilation: int, padding: int) -> int:
    """What a window makes of one dimension."""
    reach = (window - 1) * dilation + 1
    made = -(-size // stride) if padding == 0 else (size - reach) // stride + 1
    if made < 1:
        raise WrongError(f"has a window of {reach} on {size} values")
    return made


def _padding(node: Node) -> int:
    padding = node.option(0, "b")
    if padding not in (0, 1):
        raise WrongError(f"has a padding of kind {padding}")
    return padding


def _slide(node: Node, height: int, width: int, dilations: tuple[int, int], channels: int) -> None:
    """A window over the second and third dimension: its options, what it makes, and what its kernels take."""
    padding = _padding(node)
    across, down = (node.between("stride", node.option(field, "i")) for field in (1, 2))
    values = node.inputs[0]
    made = [
        _extent(node, size, window, stride, node.between("dilation", dilation), padding)
        for size, window, stride, dilation in zip(
            values.shape[1:3], (height, width), (down, across), dilations, strict=True
        )
    ]
    node.makes((values.shape[0], *made, channels))
    node.work = node.outputs[0].elements * height * width
    # Patches laid side by side, or a pointer to each of their pixels.
    node.scratch = values.shape[0] * made[0] * made[1] * height * width * max(8, 4 * values.shape[3])


def _conv(node: Node) -> None:
    values, filters, output = *node.inputs[:2], node.outputs[0]
    for tensor in (values, filters, output):
        node.rank(tensor, 4)
    channels, height, width, depth = filters.shape
    groups, rest = divmod(values.shape[3], depth)
    if rest or channels % groups:
        raise WrongError(f"has filters {list(filters.shape)} for {values.shape[3]} channels")
    if groups > 1:
        raise UnprovenError("has groups of channels")
    _product(node, channels, 0)
    node.activation(3)
    _slide(node, height, width, (node.option(5, "i", 1), node.option(4, "i", 1)), channels)


def _depthwise(node: Node) -> None:
    values, filters, output = *node.inputs[:2], node.outputs[0]
    for tensor in (values, filters, output):
        node.rank(tensor, 4)
    one, height, width, channels = filters.shape
    if one != 1 or channels != values.shape[3] * node.option(3, "i"):
        raise WrongError(
            f"has filters {list(filters.shape)}, {node.option(3, 'i')} for each of {values.shape[3]} channels"
        )
    _product(node, channels, 3)
    node.activation(4)
    _slide(node, height, width, (node.option(6, "i", 1), node.option(5, "i", 1)), channels)


def _pool(node: Node) -> None:
    node.alike(*_ACTIVATIONS)
    values = node.inputs[0]
    for tensor in (values, node.outputs[0]):
        node.rank(tensor, 4)
    node.activation(5)
    node.quantised()
    if values.scales != node.outputs[0].scales or values.zero_points != node.outputs[0].zero_points:
        raise UnprovenError("changes the scale")
    width, height = (node.between("window", node.option(field, "i")) for field in (3, 4))
    _slide(node, height, width, (1, 1), values.shape[3])


def _fully_connected(node: Node) -> None:
    values, weights = node.inputs[:2]
    node.rank(weights, 2)
    units, depth = weights.shape
    if not values.shape or values.elements % depth:
        raise WrongError(f"has weights {list(weights.shape)} for {list(values.shape)}")
    _product(node, units, 0)
    node.activation(0)
    if node.option(1, "b"):
        raise UnprovenError("has shuffled weights")
    if node.option(2, "?"):
        if values.shape[-1] != depth:
            raise WrongError(f"has weights {list(weights.shape)} for {list(values.shape)}")
        node.makes((*values.shape[:-1], units))
    else:
        node.makes((values.elements // depth, units))


def _svdf(node: Node) -> None:
    values, features, times, bias, state = node.inputs
    for tensor in (values, features, times, state):
        node.rank(tensor, 2)
    node.types(*(("float32",) * 6, ("int8", "int8", "int16", "int32", "int16", "int8")))
    batch, depth = values.shape
    rank, (filters, memory) = node.between("rank", node.option(0, "i")), times.shape
    if filters % rank or features.shape != (filters, depth) or state.shape != (batch, filters * memory):
        raise WrongError("has weights and a state that do not fit each other")
    for i in (1, 2, 3):
        if node.inputs[i]:
            node.constant(i)
    if bias and bias.shape != (filters // rank,):
        raise WrongError(f"has a bias of {list(bias.shape)} for {filters // rank} units")
    if not state.variable:
        raise WrongError("has a state that is no variable")
    node.activation(1)
    if values.dtype == "int8":
        if any(len(t.scales) != 1 for t in (values, features, times, state, node.outputs[0])):
            raise WrongError("works on values without a scale")
        node.multiplier(values, features, state)
        node.multiplier(state, times, node.outputs[0])
    node.makes((batch, filters // rank))
    node.scratch = 8 * batch * filters


def _elementwise(*types: str) -> Callable[[Node], None]:
    def check(node: Node) -> None:
        node.alike(*types)
        node.quantised()
        node.makes(node.inputs[0].shape)

    return check


def _leaky_relu(node: Node) -> None:
    _elementwise(*_ACTIVATIONS)(node)
    if not abs(node.option(0, "f")) <= 2**8:
        raise UnprovenError(f"has a slope of {node.option(0, 'f'):g}")


def _softmax(node: Node) -> None:
    node.types(("float32", "float32"), ("int8", "int8"), ("uint8", "uint8"))
    node.quantised()
    if not node.inputs[0].shape:
        raise WrongError("works on a single number")
    beta = node.option(0, "f")
    if not beta > 0:
        raise WrongError(f"has a beta of {beta:g}")
    if not 2**-8 <= beta <= 2**8:
        raise UnprovenError(f"has a beta of {beta:g}")
    if node.inputs[0].scales and not 2**-16 <= beta * node.inputs[0].scale <= 2**8:
        raise UnprovenError(f"works on a scale of {node.inputs[0].scale:g}")
    node.makes(node.inputs[0].shape)


def _binary(node: Node) -> None:
    node.alike(*_ACTIVATIONS, "int32")
    if node.op.name not in ("MAXIMUM", "MINIMUM"):
        node.activation(0)
    if node.op.name == "MUL" and node.outputs[0].scales:
        node.multiplier(*node.inputs, node.outputs[0])
    elif node.outputs[0].dtype != "int32":
        node.quantised()
    a, b = (t.shape for t in node.inputs)
    pairs = list(itertools.zip_longest(reversed(a), reversed(b), fillvalue=1))
    if any(m != n and 1 not in (m, n) for m, n in pairs):
        raise WrongError(f"joins {list(a)} and {list(b)}")
    node.makes([max(pair) for pair in reversed(pairs)])


def _requantise(node: Node) -> None:
    types = node.inputs[0].dtype, node.outputs[0].dtype
    if node.op.name == "QUANTIZE":
        known = types[0] in _ACTIVATIONS and types[1] in ("int8", "uint8")
    else:
        known = types[0] in ("int8", "uint8") and types[1] == "float32"
    if not known:
        raise UnprovenError(f"goes from {types[0]} to {types[1]}")
    node.quantised()
    node.makes(node.inputs[0].shape)


def _same_scale(node: Node, tensors: Sequence[Tensor]) -> None:
    """Values that are moved keep their meaning."""
    first = node.outputs[0]
    if any((t.scales, t.zero_points) != (first.scales, first.zero_points) for t in tensors):
        raise UnprovenError("changes the scale")


def _concatenation(node: Node) -> None:
    node.moves(*node.inputs)
    if node.outputs[0].dtype in ("int8", "uint8"):
        node.quantised()
        _same_scale(node, node.inputs)
    if node.option(1, "b"):
        raise WrongError("has a fused activation")
    shapes = [t.shape for t in node.inputs]
    (axis,) = node.axes([node.option(0, "i")], len(shapes[0]))
    rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if len(rest) > 1 or any(len(shape) != len(shapes[0]) for shape in shapes):
        raise WrongError(f"joins {', '.join(str(list(shape)) for shape in shapes)} along dimension {axis}")
    node.makes((*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :]))


def _pack(node: Node) -> None:
    node.moves(*node.inputs)
    shapes = {t.shape for t in node.inputs}
    if len(shapes) > 1 or node.option(0, "i") != len(node.inputs):
        raise WrongError(f"joins {node.option(0, 'i')} of {len(node.inputs)} inputs")
    (shape,) = shapes
    (axis,) = node.axes([node.option(1, "i")], len(shape) + 1)
    node.makes((*shape[:axis], len(node.inputs), *shape[axis:]))


def _reshape(node: Node) -> None:
    node.moves(node.inputs[0])
    wanted = node.op.options.scalars(0, "i", most=8) if node.op.options else None  # read even where an input says it
    if len(node.inputs) > 1:
        node.rank(node.inputs[1], 1)
        if node.inputs[1].dtype != "int32":
            raise WrongError(f"has {node.inputs[1].dtype} for a shape")
        wanted = node.numbers(1)
    elif wanted is None:
        raise WrongError("lacks a shape")
    elements = node.inputs[0].elements
    known = math.prod(n for n in wanted if n != -1)
    if wanted.count(-1) > 1 or known < 1 or elements % known or min(wanted, default=1) < -1:
        raise WrongError(f"makes {list(wanted)} of {list(node.inputs[0].shape)}")
    shape = [elements // known if n == -1 else n for n in wanted]
    if math.prod(shape) != elements:
        raise WrongError(f"makes {list(wanted)} of {list(node.inputs[0].shape)}")
    node.makes(shape)


def _squeeze(node: Node) -> None:
    node.moves(node.inputs[0])
    shape = node.inputs[0].shape
    given = node.op.options.scalars(0, "i", most=8) if node.op.options else ()
    axes = node.axes(given, len(shape)) if given else [i for i, n in enumerate(shape) if n == 1]
    if any(shape[axis] != 1 for axis in axes):
        raise WrongError(f"drops dimensions {list(axes)} of {list(shape)}")
    node.makes([n for i, n in enumerate(shape) if i not in axes])


def _expand_dims(node: Node) -> None:
    node.moves(node.inputs[0])
    shape, axis = node.inputs[0].shape, node.numbers(1)
    if len(axis) != 1:
        raise WrongError(f"has {len(axis)} axes")
    (axis,) = node.axes(axis, len(shape) + 1)
    node.makes((*shape[:axis], 1, *shape[axis:]))


def _pad(node: Node) -> None:
    node.moves(node.inputs[0])
    if node.outputs[0].dtype in ("int8", "uint8"):
        node.quantised()
        _same_scale(node, node.inputs[:1])
    shape = node.inputs[0].shape
    if node.inputs[1].shape != (len(shape), 2) or not shape:
        raise WrongError(f"has a padding of {list(node.inputs[1].shape)} for {list(shape)}")
    amounts = node.numbers(1)
    if min(amounts) < 0 or max(amounts) > 2**20:
        raise WrongError(f"pads by {list(amounts)}")
    node.makes([n + before + after for n, before, after in zip(shape, amounts[::2], amounts[1::2], strict=True)])


def _reduce(node: Node) -> None:
    values = node.inputs[0]
    node.moves(values, allowed=_ACTIVATIONS)
    if not values.shape:
        raise UnprovenError("works on a single number")
    if values.dtype != "float32":
        node.quantised()
        if node.op.name == "REDUCE_MAX":
            _same_scale(node, [values])
    if len(node.inputs[1].shape) > 1 or node.inputs[1].dtype != "int32":
        raise WrongError(f"has axes of {node.inputs[1].dtype} {list(node.inputs[1].shape)}")
    axes = node.axes(node.numbers(1), len(values.shape))
    keep = node.option(0, "?")
    node.makes([1 if i in axes else n for i, n in enumerate(values.shape) if keep or i not in axes])
    node.scratch = 8 * node.outputs[0].elements


def _strided_slice(node: Node) -> None:
    node.moves(node.inputs[0])
    shape = node.inputs[0].shape
    for tensor in node.inputs[1:]:
        node.rank(tensor, 1)
        if tensor.dtype != "int32":
            raise UnprovenError(f"has {tensor.dtype} for positions")
    begins, ends, strides = (node.numbers(i) for i in (1, 2, 3))
    if not len(begins) == len(ends) == len(strides) <= len(shape):
        raise WrongError(f"takes {len(begins)} to {len(ends)} by {len(strides)} of {len(shape)} dimensions")
    begin_mask, end_mask, ellipsis, new, shrink = (node.option(field, "i") for field in range(5))
    if ellipsis or new or node.option(5, "?") or any(stride < 1 for stride in strides):
        raise UnprovenError("takes a slice of a rare kind")
    made = []
    for i, size in enumerate(shape):
        if i >= len(begins):
            made.append(size)
            continue
        begin = None if begin_mask >> i & 1 else begins[i]
        if shrink >> i & 1:
            if begin is None or not -size <= begin < size:
                raise WrongError(f"takes value {begin} of {size}")
            continue
        made.append(len(range(size)[begin : None if end_mask >> i & 1 else ends[i] : strides[i]]))
    node.makes(made)


def _split(node: Node) -> None:
    # SPLIT has its axis first; SPLIT_V its values, then the sizes, then the axis.
    ragged = node.op.name == "SPLIT_V"
    values, axis = (node.inputs[0], node.numbers(2)) if ragged else (node.inputs[1], node.numbers(0))
    node.moves(values)
    _same_scale(node, [values, *node.outputs])
    if len(axis) != 1:
        raise WrongError(f"has {len(axis)} axes")
    (axis,) = node.axes(axis, len(values.shape))
    n, size = len(node.outputs), values.shape[axis]
    if node.option(0, "i") != n or not n:
        raise WrongError(f"makes {node.option(0, 'i')} parts, but has {n} outputs")
    if ragged:
        node.rank(node.inputs[1], 1)
        sizes = list(node.numbers(1))
        if sizes.count(-1) == 1:
            sizes[sizes.index(-1)] = size - sum(sizes) - 1
    else:
        sizes = [size // n] * n
    if len(sizes) != n or min(sizes) < 1 or sum(sizes) != size:
        raise WrongError(f"makes parts of {sizes} of {size} values")
    for i, part in enumerate(sizes):
        node.makes((*values.shape[:axis], part, *values.shape[axis + 1 :]), i)


def _transpose(node: Node) -> None:
    node.moves(node.inputs[0])
    shape, order = node.inputs[0].shape, node.numbers(1)
    if node.inputs[1].dtype != "int32" or sorted(order) != list(range(len(shape))):
        raise WrongError(f"has the order {list(order)} for {list(shape)}")
    node.makes([shape[i] for i in order])


def _shape(node: Node) -> None:
    if node.option(0, "b") not in (2, 4) or node.outputs[0].dtype != ("int32" if node.option(0, "b") == 2 else "int64"):
        raise UnprovenError(f"makes {node.outputs[0].dtype}")
    node.makes([len(node.inputs[0].shape)])


@dataclass(frozen=True)
class Form:
    """What an operator looks like."""

    options: int
    """Kind of its options."""
    inputs: range
    """How many it has."""
    check: Callable[[Node], None] | None
    """None for variables and calls, which depend on other operators."""
    outputs: range = range(1, 2)
    optional: tuple[int, ...] = ()
    """Inputs that may be left out."""
    required: bool = False
    """Whether it cannot do without options."""


_none, _one, _two, _many = range(1), range(1, 2), range(2, 3), range(1, 65)
LISTED = {
    "ADD": Form(11, _two, _binary),
    "ASSIGN_VARIABLE": Form(113, _two, None, outputs=_none),
    "AVERAGE_POOL_2D": Form(5, _one, _pool, required=True),
    "CALL_ONCE": Form(103, _none, None, outputs=_none, required=True),
    "CONCATENATION": Form(10, _many, _concatenation, required=True),
    "CONV_2D": Form(1, range(2, 4), _conv, optional=(2,), required=True),
    "DEPTHWISE_CONV_2D": Form(2, range(2, 4), _depthwise, optional=(2,), required=True),
    "DEQUANTIZE": Form(38, _one, _requantise),
    "EXPAND_DIMS": Form(52, _two, _expand_dims),
    "FULLY_CONNECTED": Form(8, range(2, 4), _fully_connected, optional=(2,), required=True),
    "HARD_SWISH": Form(91, _one, _elementwise(*_ACTIVATIONS)),
    "LEAKY_RELU": Form(75, _one, _leaky_relu, required=True),
    "LOGISTIC": Form(0, _one, _elementwise(*_ACTIVATIONS)),
    "MAXIMUM": Form(39, _two, _binary),
    "MAX_POOL_2D": Form(5, _one, _pool, required=True),
    "MEAN": Form(27, _two, _reduce, required=True),
    "MINIMUM": Form(39, _two, _binary),
    "MUL": Form(21, _two, _binary),
    "PACK": Form(59, _many, _pack, required=True),
    "PAD": Form(22, _two, _pad),
    "QUANTIZE": Form(89, _one, _requantise),
    "READ_VARIABLE": Form(112, _one, None),
    "REDUCE_MAX": Form(27, _two, _reduce, required=True),
    "RELU": Form(0, _one, _elementwise(*_ACTIVATIONS)),
    "RELU6": Form(0, _one, _elementwise(*_ACTIVATIONS)),
    "RELU_N1_TO_1": Form(0, _one, _elementwise(*_ACTIVATIONS)),
    "RESHAPE": Form(17, range(1, 3), _reshape),
    "SHAPE": Form(55, _one, _shape, required=True),
    "SOFTMAX": Form(9, _one, _softmax, required=True),
    "SPLIT": Form(35, _two, _split, outputs=_many, required=True),
    "SPLIT_V": Form(79, range(3, 4), _split, outputs=_many, required=True),
    "SQUEEZE": Form(30, _one, _squeeze),
    "STRIDED_SLICE": Form(32, range(4, 5), _strided_slice, required=True),
    "SUB": Form(28, _two, _binary),
    "SUM": Form(27, _two, _reduce, required=True),
    "SVDF": Form(6, range(5, 6), _svdf, optional=(3,), required=True),
    "TANH": Form(0, _one, _elementwise(*_ACTIVATIONS)),
    "TRANSPOSE": Form(26, _two, _transpose),
    "VAR_HANDLE": Form(111, _none, None, required=True),
}
"""The operators that are checked, by name."""
