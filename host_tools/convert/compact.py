"""A smaller flatbuffer of the same model: equal vectors stored once, short tensor names.

The converter writes zero points for every tensor anew: eight bytes a channel, nearly always zero. It writes whole paths
as names. If a network has many narrow layers, both together fill a third of the file.
"""

from __future__ import annotations

import flatbuffers
import numpy as np

__all__ = ["compact", "opened", "written"]

_IDENTIFIER = b"TFL3"
_BUFFER_ALIGNMENT = 16  # bytes; alignment of tensor data, the schema's force_align


class _SharingBuilder(flatbuffers.Builder):
    """Writes equal vectors of scalars once. Vectors are immutable, so several tables may point to one."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802 (the name is the library's)
        key = (x.dtype.str, x.tobytes())
        if key not in self._written:
            if x.dtype == np.uint8:
                self.StartVector(1, len(x), _BUFFER_ALIGNMENT)
                self.head -= len(x)
                self.Bytes[self.head : self.head + len(x)] = key[1]
                self._written[key] = self.EndVector()
            else:
                self._written[key] = super().CreateNumpyVector(x)
        return self._written[key]


def _short(name: bytes) -> bytes:
    """The ``layer`` of a name such as ``model/layer/op;...``."""
    parts = name.split(b";")[0].split(b"/")
    return parts[-2] if len(parts) > 1 else parts[0]


def compact(flatbuffer: bytes) -> bytes:
    """Rewrite a TFLite flatbuffer in fewer bytes. The network computes the same as before.

    Parameters
    ----------
    flatbuffer : bytes

    Returns
    -------
    bytes
    """
    model = opened(flatbuffer)
    for graph in model.subgraphs:
        kept = {*graph.inputs, *graph.outputs}
        for i, tensor in enumerate(graph.tensors):
            if i not in kept:
                tensor.name = _short(tensor.name)
    return written(model)


def opened(flatbuffer: bytes):
    """A flatbuffer as objects of TensorFlow's schema. You may change them and pass them to :func:`written`."""
    from tensorflow.lite.python import schema_py_generated as schema

    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(flatbuffer), 0))


def written(model) -> bytes:
    """The flatbuffer of objects that :func:`opened` gave. It stores equal vectors once."""
    builder = _SharingBuilder(2**16)
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())
