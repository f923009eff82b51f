"""Let a model give a tensor between its layers, too, without another file."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from kws_edge.model.tflite.flatbuffer import Reader

__all__ = ["with_outputs"]

_SUBGRAPHS, _OUTPUTS = 2, 2
"""Fields of the model and of a subgraph."""


def with_outputs(data: bytes, tensors: Sequence[int]) -> bytes:
    """Return the same flatbuffer with other outputs of its first subgraph.

    The weights stay where they are. A new list of outputs follows the end of the file, to where the subgraph then
    points.

    Parameters
    ----------
    data : bytes
        A flatbuffer that :class:`kws_edge.model.tflite.FlatModel` has read, with at least one output.
    tensors : sequence of int
        Numbers of the tensors of the first subgraph that become its outputs, in this order.

    Examples
    --------
    ::

        flat = FlatModel(with_outputs(model.flat.data, [*model.flat.graphs[0].outputs, 40]), model.path)
    """
    graph = next(Reader(data).root().tables(_SUBGRAPHS))
    at = graph.at(_OUTPUTS)
    assert at is not None  # FlatModel requires outputs
    changed = bytearray(data) + bytes(-len(data) % 8)
    struct.pack_into("<I", changed, at, len(changed) - at)
    return bytes(changed) + struct.pack(f"<I{len(tensors)}i", len(tensors), *tensors)
