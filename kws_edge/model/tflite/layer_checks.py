"""Check what kernels assume: layers with weights, and sliding windows."""

from __future__ import annotations

from kws_edge.model.tflite.node import ACTIVATIONS, Node, UnprovenError, WrongError, matches

__all__ = ["conv", "depthwise", "fully_connected", "pool", "svdf"]


_PRODUCTS = (
    ("float32", "float32", "float32", "float32"),
    ("int8", "int8", "int32", "int8"),
    ("uint8", "uint8", "int32", "uint8"),
)
"""Allowed types of values, weights, bias and output."""


def _product(node: Node, channels: int, axis: int) -> None:
    """Check types, quantisation and number of outputs of values, weights and bias."""
    values, weights, bias, output = node.inputs[0], node.inputs[1], node.optional(2), node.outputs[0]
    found = [t.dtype if t else None for t in (values, weights, bias, output)]
    hybrid = found[0] == found[3] == "float32" and found[1] == "int8" and found[2] in (None, "float32")
    if not hybrid and not any(matches(found, row) for row in _PRODUCTS):
        raise UnprovenError(f"works on {', '.join(filter(None, found))}")
    node.constant(1)
    if bias:
        node.constant(2)
        if bias.shape != (channels,):
            raise WrongError(f"has a bias of {list(bias.shape)} for {channels} channels")
    elif node.op.name != "FULLY_CONNECTED":
        raise UnprovenError("has no bias")  # some kernels read a bias all the same
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
    """Size of one output dimension of a sliding window."""
    reach = (window - 1) * dilation + 1
    made = -(-size // stride) if padding == 0 else (size - reach) // stride + 1
    if made < 1:
        raise WrongError(f"has a window of {reach} on {size} values")
    return made


def _padding(node: Node) -> int:
    padding: int = node.option(0, "b")
    if padding not in (0, 1):
        raise WrongError(f"has a padding of kind {padding}")
    return padding


def _slide(node: Node, height: int, width: int, dilations: tuple[int, int], channels: int) -> None:
    """Check a window over the second and third dimension: its options, its output, and the memory of its kernels."""
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
    # Kernels copy the patches side by side, or keep a pointer to each of their pixels.
    node.scratch = values.shape[0] * made[0] * made[1] * height * width * max(8, 4 * values.shape[3])


def conv(node: Node) -> None:
    values, filters, output = node.inputs[0], node.inputs[1], node.outputs[0]
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


def depthwise(node: Node) -> None:
    values, filters, output = node.inputs[0], node.inputs[1], node.outputs[0]
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


def pool(node: Node) -> None:
    node.alike(*ACTIVATIONS)
    values = node.inputs[0]
    for tensor in (values, node.outputs[0]):
        node.rank(tensor, 4)
    node.activation(5)
    node.quantised()
    if values.scales != node.outputs[0].scales or values.zero_points != node.outputs[0].zero_points:
        raise UnprovenError("changes the scale")
    width, height = (node.between("window", node.option(field, "i")) for field in (3, 4))
    _slide(node, height, width, (1, 1), values.shape[3])


def fully_connected(node: Node) -> None:
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


def svdf(node: Node) -> None:
    values, features, times, _, state = node.inputs
    bias = node.optional(3)
    for tensor in (values, features, times, state):
        node.rank(tensor, 2)
    node.types(*(("float32",) * 6, ("int8", "int8", "int16", "int32", "int16", "int8")))
    batch, depth = values.shape
    rank, (filters, memory) = node.between("rank", node.option(0, "i")), times.shape
    if filters % rank or features.shape != (filters, depth) or state.shape != (batch, filters * memory):
        raise WrongError("has weights and a state that do not fit each other")
    for i in (1, 2, 3):
        if node.optional(i):
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
