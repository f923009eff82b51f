"""Compute where TFLite Micro puts tensors and scratch buffers in the head of the arena."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kws_edge.model.tflite import Graph

__all__ = ["head_bytes"]

_ALIGNMENT = 16
_REQUESTS = 12
"""Number of an operator's scratch buffers for which TFLite Micro reserves room."""
_REQUEST, _INFO, _ENTRY = 16, 40, 40
"""Bytes that planning needs for each request, each tensor and each buffer, with 64-bit pointers."""


class _Buffer(NamedTuple):
    size: int
    first: int
    last: int
    """First and last operator that use the buffer, counted from 1."""


def head_bytes(graph: Graph, scratch: Mapping[int, Iterable[int]]) -> tuple[int, int]:
    """Bytes of a graph's tensors and scratch buffers, and bytes that planning needs there before.

    Parameters
    ----------
    graph : Graph
        A graph that calls no subgraphs.
    scratch : mapping of int to iterable of int
        Bytes of the scratch buffers of each operator, by its number.
    """
    scratches = [_Buffer(size, i + 1, i + 1) for i, sizes in sorted(scratch.items()) for size in sizes]
    buffers = [buffer._replace(size=_aligned(buffer.size)) for buffer in _tensors(graph) + scratches]
    planning = (
        _aligned(_REQUEST * (len(scratches) + _REQUESTS))
        + _aligned(8 + _INFO * (len(graph.tensors) + len(scratches)))
        + _ENTRY * len(buffers)
    )
    return _greedy(buffers), planning


def _tensors(graph: Graph) -> list[_Buffer]:
    """Buffers of the tensors that are neither constant nor variable. The input lives from 0, an output to the end."""
    first, last = dict.fromkeys(graph.inputs, 0), dict.fromkeys(graph.inputs, 0)
    for now, op in enumerate(graph.operators, 1):
        for i in op.outputs:
            first.setdefault(i, now)
        last.update(dict.fromkeys((*op.inputs, *op.outputs), now))
    last.update(dict.fromkeys(graph.outputs, len(graph.operators)))
    return [
        _Buffer(tensor.size, first.get(i, -1), last.get(i, -1))
        for i, tensor in enumerate(graph.tensors)
        if not (tensor.data or tensor.variable) and tensor.size
    ]


def _greedy(buffers: list[_Buffer]) -> int:
    """Place the largest buffer first (of equal ones the last), each into the first gap that is free during its use."""
    placed: list[tuple[int, _Buffer]] = []  # sorted by offset
    for _, buffer in sorted(enumerate(buffers), key=lambda entry: (entry[1].size, entry[0]), reverse=True):
        offset = 0
        for start, other in placed:
            if other.first <= buffer.last and buffer.first <= other.last:
                if start - offset >= buffer.size:
                    break
                offset = max(offset, start + other.size)
        placed.append((offset, buffer))
        placed.sort(key=lambda entry: entry[0])
    return max((offset + buffer.size for offset, buffer in placed), default=0)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
