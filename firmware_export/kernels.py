"""Compute the arena for each kind of TFLite Micro's kernels. Optimised kernels need further scratch buffers.

The formulas are those of TFLite Micro of August 2026 and of CMSIS-NN 7.0 (integer kernels, any compiler). For ESP-NN on
an ESP32-S3 they give the larger result of versions 1.1 and 1.2. A test compares them with the libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from firmware_export.planner import head_bytes
from kws_edge.model.tflite import FlatModel, Tensor
from kws_edge.model.tflite.node import Node

__all__ = ["KERNELS", "arenas", "asked"]

_GRANULE = 16  # bytes; the size of persistent buffers is a multiple of this


def arenas(flat: FlatModel, head: int, tail: int) -> dict[str, int]:
    """Bytes of the arena that a model needs with each of :data:`KERNELS`.

    Parameters
    ----------
    flat : FlatModel
    head, tail : int
        Bytes that TFLite Micro's interpreter needs with its reference kernels on a 64-bit machine. Structures there are
        larger than on a board.
    """
    graph = flat.graphs[0]
    nodes = [Node(flat, graph, op) for op in graph.operators]

    def plan(kernels: str) -> tuple[int, int, int]:
        wants = [asked(node, kernels) for node in nodes]
        scratch = {i: sizes for i, (sizes, _) in enumerate(wants)}
        kept = sum(more for _, more in wants) + 8 * sum(map(len, scratch.values()))
        return *head_bytes(graph, scratch), kept

    tensors, _, kept = plan("reference")  # equals `head`, unless the model calls subgraphs
    plans = {kernels: plan(kernels) for kernels in KERNELS}
    return {
        kernels: tail + more - kept + max(head + planned - tensors, planning)
        for kernels, (planned, planning, more) in plans.items()
    }


def _input(node: Node, number: int) -> Tensor:
    """A required input of the operator."""
    tensor = node.inputs[number]
    assert tensor is not None
    return tensor


def asked(node: Node, kernels: str) -> tuple[list[int], int]:
    """Sizes of an operator's scratch buffers, and bytes that it keeps beyond those of the reference kernel."""
    optimised = KERNELS[kernels].get(node.op.name)
    if optimised and _input(node, 0).dtype == node.outputs[0].dtype == "int8":
        return optimised(node)
    return _reference(node), 0


def _reference(node: Node) -> list[int]:
    if node.op.name in ("MEAN", "SUM"):
        values, axes = _input(node, 0), _input(node, 1)
        sums = [4 * node.outputs[0].elements] if values.dtype == "int8" else []
        return [*sums, 4 * len(values.shape), 4 * axes.elements]
    if node.op.name == "SVDF":
        batch, filters, units = _input(node, 0).shape[0], _input(node, 1).shape[0], node.outputs[0].shape[-1]
        return [4 * batch * filters, 4 * batch * units]
    return []


class _Window:
    """Sizes that the kernel of a convolution uses."""

    def __init__(self, node: Node) -> None:
        depthwise = node.op.name == "DEPTHWISE_CONV_2D"
        _, self.height, self.width, self.channels = _input(node, 0).shape
        self.batch = _input(node, 0).shape[0]
        _, self.out_height, self.out_width, self.out_channels = node.outputs[0].shape
        _, self.filter_height, self.filter_width, self.filter_channels = _input(node, 1).shape
        self.stride_width, self.stride_height = (node.option(field, "i", 1) for field in (1, 2))
        self.multiplier = node.option(3, "i") if depthwise else 1
        field = 5 if depthwise else 4
        self.dilation_width, self.dilation_height = (node.option(i, "i", 1) for i in (field, field + 1))
        same = node.option(0, "b") == 0
        self.pad_height = same * _padding(
            self.height, self.out_height, self.filter_height, self.stride_height, self.dilation_height
        )
        self.pad_width = same * _padding(
            self.width, self.out_width, self.filter_width, self.stride_width, self.dilation_width
        )
        self.undilated = self.dilation_width == self.dilation_height == 1
        self.unpadded = self.pad_height == self.pad_width == 0
        self.pointwise = self.filter_height == self.filter_width == 1
        self.taps = self.filter_height * self.filter_width
        self.values = self.height * self.width * self.channels


def _padding(size: int, out: int, taps: int, stride: int, dilation: int) -> int:
    return max((out - 1) * stride + (taps - 1) * dilation + 1 - size, 0) // 2


def _up(size: int, to: int) -> int:
    return -(-size // to) * to


def _one(size: int) -> tuple[list[int], int]:
    """One scratch buffer, if its size is not 0, and the bytes of its number in the operator's own structure."""
    return [size] * (size > 0), _GRANULE


def _cmsis_conv(node: Node, *, mve: bool) -> tuple[list[int], int]:
    w = _Window(node)
    whole = w.undilated and w.channels == w.filter_channels
    if w.pointwise and w.unpadded and whole:
        # Two columns, if Arm's own compiler is used.
        return _one(0 if mve or (w.stride_height, w.stride_width) != (1, 1) else 4 * w.channels)
    window = w.taps * w.channels
    columns = 4 * _up(window, 16) if mve else 4 * _up(window, 4)
    one_by_n = (
        w.height == w.filter_height == w.dilation_width == 1
        and w.channels == w.filter_channels
        and w.stride_width * w.channels % 4 == 0
    )
    if mve and one_by_n:
        odd = ((w.out_width - 1) * w.stride_width + w.filter_width - w.width) % 2
        left = max(1, -(-w.pad_width // w.stride_width)) if w.pad_width else 0
        right = max(1, -(-(w.pad_width + odd) // w.stride_width)) if w.pad_width + odd else 0
        if max(w.out_width - left - right, 0) + left + right == w.out_width:
            columns = w.channels * max(
                w.filter_width + w.pad_width, w.filter_width - 1 + (right if odd else w.pad_width)
            )
    return _one(columns)


def _cmsis_depthwise(node: Node, *, mve: bool) -> tuple[list[int], int]:
    w = _Window(node)
    size = 0
    if w.channels == w.out_channels and w.batch == 1 and w.undilated:
        small = w.filter_height == w.filter_width == 3 and max(w.pad_height, w.pad_width) <= 1
        size = 4 * 124 * w.taps if mve else 0 if small else 2 * w.channels * w.taps
    if mve and w.channels == 1 and w.out_channels > 1:  # computed as a convolution
        size = max(size, 4 * _up(w.taps, 16) + w.taps * w.out_channels)
    return _one(size)


def _cmsis_fully_connected(node: Node, *, mve: bool) -> tuple[list[int], int]:
    """Row sums of the weights are kept, or are in a scratch buffer if kernels are optimised for size."""
    weights = _input(node, 1)
    rows, depth = weights.shape
    if len(node.outputs[0].shape) > 2 and depth % 4 == 0:  # computed as a convolution, with a scale for each row
        scales = [8 * rows] if len(weights.scales) == 1 else []
        return scales + [4 * depth] * (not mve), 2 * _GRANULE
    sums = 4 * rows * mve
    return [sums] * mve, 2 * _GRANULE + _up(sums, _GRANULE)


def _cmsis_svdf(node: Node, *, mve: bool) -> tuple[list[int], int]:
    sums = 4 * _input(node, 1).shape[0] * mve
    return _reference(node) + [sums] * mve, _GRANULE + _up(sums, _GRANULE)


def _cmsis_pool(node: Node, *, mve: bool) -> tuple[list[int], int]:
    return _one(0 if mve else 4 * _input(node, 0).shape[-1])


def _cmsis_none(node: Node, *, mve: bool) -> tuple[list[int], int]:
    return [], _GRANULE


def _esp_conv(node: Node) -> tuple[list[int], int]:
    w = _Window(node)
    if w.pointwise and w.unpadded and (w.stride_height, w.stride_width) == (1, 1):
        channels = _up(w.channels, 8)
        values = w.height * w.width * channels if w.channels % 8 else 0
        transposed = 16 * channels if w.height * w.width >= 8 else 0
        return _one(values + channels * w.out_channels + transposed + 64)
    row, window, sums = w.filter_width * w.channels, w.taps * w.channels, 4 * w.out_channels
    padded = 0 if w.unpadded else (w.height + 2 * w.pad_height) * (w.width + 2 * w.pad_width) * w.channels
    earlier = padded + w.taps * _up(w.channels, 16) * w.out_channels + sums + 32
    if row < 16 <= window:
        return _one(max(earlier, sums + 16 + (w.out_channels + 1) * _up(window, 16) + 16 + 64))
    right = max(0, w.out_width * w.stride_width + w.filter_width - 1 - w.width)
    below = max(0, w.out_height * w.stride_height + w.filter_height - 1 - w.height)
    edges = (w.width + right) * (w.height + below) * w.channels if right or below else 0
    return _one(earlier + 32 + _up(row, 16) * w.filter_height * w.out_channels + edges)


def _esp_depthwise(node: Node) -> tuple[list[int], int]:
    w = _Window(node)
    filters = w.taps * w.channels * w.multiplier
    wide = 2 * (filters + w.values) + 32  # filters and values as 16-bit numbers
    right = w.out_width * w.stride_width + w.filter_width - 1 - w.width
    below = w.out_height * w.stride_height + w.filter_height - 1 - w.height
    if w.multiplier == 1 and w.channels % 8 == 0:
        if (w.filter_height, w.filter_width) != (3, 3):
            tile = 2 * filters + 2 * w.width * w.filter_height * w.channels + 32
            return _one(wide if wide - 32 <= 48 * 1024 else tile)
        if w.channels % 16 == 0:
            if not w.unpadded:
                right, below = 2 * w.pad_width, 2 * w.pad_height
            values = (w.width + right) * (w.height + below) * w.channels if right or below else 0
            return _one(filters + values + 16)
        if w.channels == 8:
            return _one(wide)
        channels = _up(w.channels, 16)
        right, below = 2 * w.pad_width + max(0, right), 2 * w.pad_height + max(0, below)
        padded = (w.width + right) * (w.height + below) + w.out_height * w.out_width + 9
        return _one(max(wide, padded * channels + 64))
    if w.multiplier == 1 and w.channels > 3:
        channels = _up(w.channels, 8)
        parts = (2 * w.taps * channels, 2 * w.height * w.width * channels, w.out_height * w.out_width * channels)
        return _one(sum(_up(part, 16) for part in parts) + 12 * channels + 16)
    return _one(wide if w.multiplier % 4 == 0 else 32)


def _esp_softmax(node: Node) -> tuple[list[int], int]:
    return _one(4 * _input(node, 0).shape[:2][-1])


_CMSIS = {
    "AVERAGE_POOL_2D": _cmsis_pool,
    "CONV_2D": _cmsis_conv,
    "DEPTHWISE_CONV_2D": _cmsis_depthwise,
    "FULLY_CONNECTED": _cmsis_fully_connected,
    "MAX_POOL_2D": _cmsis_none,
    "SOFTMAX": _cmsis_none,
    "SVDF": _cmsis_svdf,
}
KERNELS: dict[str, dict[str, Callable[[Node], tuple[list[int], int]]]] = {
    "reference": {},
    "cmsis-nn": {name: partial(ask, mve=False) for name, ask in _CMSIS.items()},
    "cmsis-nn-mve": {name: partial(ask, mve=True) for name, ask in _CMSIS.items()},
    "esp-nn": {"CONV_2D": _esp_conv, "DEPTHWISE_CONV_2D": _esp_depthwise, "SOFTMAX": _esp_softmax},
}
"""For each kind of kernels, the operators with kernels of their own. ``cmsis-nn`` is for cores without vectors
(Cortex-M4, M7, M33), and ``cmsis-nn-mve`` for cores with vectors (Cortex-M52, M55, M85)."""
