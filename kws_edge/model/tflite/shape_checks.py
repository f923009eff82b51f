"""Check what kernels assume: operators that move, join, cut or gather values."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kws_edge.model.tflite.flat_model import Tensor
from kws_edge.model.tflite.node import ACTIVATIONS, Node, UnprovenError, WrongError

__all__ = [
    "concatenation",
    "expand_dims",
    "pack",
    "pad",
    "reduce",
    "reshape",
    "shape",
    "split",
    "squeeze",
    "strided_slice",
    "transpose",
]


def _same_scale(node: Node, tensors: Sequence[Tensor]) -> None:
    """Check that moved values keep their meaning."""
    first = node.outputs[0]
    if any((t.scales, t.zero_points) != (first.scales, first.zero_points) for t in tensors):
        raise UnprovenError("changes the scale")


def concatenation(node: Node) -> None:
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


def pack(node: Node) -> None:
    node.moves(*node.inputs)
    shapes = {t.shape for t in node.inputs}
    if len(shapes) > 1 or node.option(0, "i") != len(node.inputs):
        raise WrongError(f"joins {node.option(0, 'i')} of {len(node.inputs)} inputs")
    (shape,) = shapes
    (axis,) = node.axes([node.option(1, "i")], len(shape) + 1)
    node.makes((*shape[:axis], len(node.inputs), *shape[axis:]))


def reshape(node: Node) -> None:
    node.moves(node.inputs[0])
    wanted = node.op.options.scalars(0, "i", most=8) if node.op.options else None  # read even if an input says it
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


def squeeze(node: Node) -> None:
    node.moves(node.inputs[0])
    shape = node.inputs[0].shape
    given = node.op.options.scalars(0, "i", most=8) if node.op.options else ()
    axes = node.axes(given, len(shape)) if given else [i for i, n in enumerate(shape) if n == 1]
    if any(shape[axis] != 1 for axis in axes):
        raise WrongError(f"drops dimensions {list(axes)} of {list(shape)}")
    node.makes([n for i, n in enumerate(shape) if i not in axes])


def expand_dims(node: Node) -> None:
    node.moves(node.inputs[0])
    shape, axes = node.inputs[0].shape, node.numbers(1)
    if len(axes) != 1:
        raise WrongError(f"has {len(axes)} axes")
    (axis,) = node.axes(axes, len(shape) + 1)
    node.makes((*shape[:axis], 1, *shape[axis:]))


def pad(node: Node) -> None:
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


def reduce(node: Node) -> None:
    values = node.inputs[0]
    node.moves(values, allowed=ACTIVATIONS)
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


def strided_slice(node: Node) -> None:
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


def split(node: Node) -> None:
    # The inputs of SPLIT are the axis and the values; those of SPLIT_V are the values, the sizes and the axis.
    ragged = node.op.name == "SPLIT_V"
    values, axes = (node.inputs[0], node.numbers(2)) if ragged else (node.inputs[1], node.numbers(0))
    node.moves(values)
    _same_scale(node, [values, *node.outputs])
    if len(axes) != 1:
        raise WrongError(f"has {len(axes)} axes")
    (axis,) = node.axes(axes, len(values.shape))
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


def transpose(node: Node) -> None:
    node.moves(node.inputs[0])
    shape, order = node.inputs[0].shape, node.numbers(1)
    if node.inputs[1].dtype != "int32" or sorted(order) != list(range(len(shape))):
        raise WrongError(f"has the order {list(order)} for {list(shape)}")
    node.makes([shape[i] for i in order])


def shape(node: Node) -> None:
    if node.option(0, "b") not in (2, 4) or node.outputs[0].dtype != ("int32" if node.option(0, "b") == 2 else "int64"):
        raise UnprovenError(f"makes {node.outputs[0].dtype}")
    node.makes([len(node.inputs[0].shape)])
