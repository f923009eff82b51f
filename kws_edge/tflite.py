"""Just enough of the TFLite file format to know what a model is before a runtime touches it.

The runtimes trust their input: a truncated file can end the process. So every table, tensor and buffer is visited here
first, with bounds checked. Field numbers are those of TensorFlow Lite's ``schema.fbs``, version 3.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from kws_edge.errors import ModelError

__all__ = ["FlatModel", "Tensor"]

_TYPES = {
    0: "float32",
    1: "float16",
    2: "int32",
    3: "uint8",
    4: "int64",
    5: "string",
    6: "bool",
    7: "int16",
    8: "complex64",
    9: "int8",
    10: "float64",
    17: "int4",
}

_OPERATORS = {
    0: "ADD",
    1: "AVERAGE_POOL_2D",
    2: "CONCATENATION",
    3: "CONV_2D",
    4: "DEPTHWISE_CONV_2D",
    6: "DEQUANTIZE",
    9: "FULLY_CONNECTED",
    14: "LOGISTIC",
    17: "MAX_POOL_2D",
    18: "MUL",
    19: "RELU",
    21: "RELU6",
    22: "RESHAPE",
    25: "SOFTMAX",
    27: "SVDF",
    28: "TANH",
    32: "CUSTOM",
    34: "PAD",
    40: "MEAN",
    41: "SUB",
    43: "SQUEEZE",
    45: "STRIDED_SLICE",
    70: "EXPAND_DIMS",
    74: "SUM",
    77: "SHAPE",
    83: "PACK",
    98: "LEAKY_RELU",
    114: "QUANTIZE",
    117: "HARD_SWISH",
}
"""Operators that keyword models use; any other is shown by its number."""


@dataclass(frozen=True)
class Tensor:
    """Shape, type and quantisation of a tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    """None for a tensor that is not quantised."""
    zero_point: int


class _Table:
    """A flatbuffer table at `position`; absent fields read as None or empty."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.position = data, position
        self.vtable = position - self.read("<i", position)
        if self.vtable < 0:
            raise struct.error("vtable before the file")
        self.fields = (self.read("<H", self.vtable) - 4) // 2

    def read(self, kind: str, position: int):
        return struct.unpack_from(kind, self.data, position)[0]

    def _at(self, field: int) -> int | None:
        if field >= self.fields:
            return None
        offset = self.read("<H", self.vtable + 4 + 2 * field)
        return self.position + offset if offset else None

    def scalar(self, field: int, kind: str, default=0):
        at = self._at(field)
        return default if at is None else self.read(kind, at)

    def table(self, field: int) -> _Table | None:
        at = self._at(field)
        return None if at is None else _Table(self.data, at + self.read("<I", at))

    def _vector(self, field: int, size: int) -> tuple[int, int]:
        at = self._at(field)
        if at is None:
            return 0, 0
        start = at + self.read("<I", at)
        length = self.read("<I", start)
        if start + 4 + length * size > len(self.data):
            raise struct.error(f"a vector ends at {start + 4 + length * size}")
        return start + 4, length

    def tables(self, field: int) -> Iterator[_Table]:
        start, length = self._vector(field, 4)
        for at in range(start, start + 4 * length, 4):
            yield _Table(self.data, at + self.read("<I", at))

    def scalars(self, field: int, kind: str) -> tuple:
        start, length = self._vector(field, struct.calcsize(kind))
        return struct.unpack_from(f"<{length}{kind}", self.data, start)

    def bytes(self, field: int) -> bytes:
        start, length = self._vector(field, 1)
        return self.data[start : start + length]


class FlatModel:
    """A TFLite flatbuffer whose structure has been checked.

    Parameters
    ----------
    data : bytes
        The file; what follows the flatbuffer is ignored.
    name : str
        What errors call the file.

    Raises
    ------
    ModelError
        If it is no TFLite model, or cut short.
    """

    def __init__(self, data: bytes, name: str) -> None:
        start = data[:512].lstrip().lower()
        if start.startswith((b"<!doctype", b"<html", b"<?xml")):
            raise ModelError(f"{name}: is a web page, not a TFLite model; download the file itself")
        if not data:
            raise ModelError(f"{name}: is empty")
        if data[4:8] != b"TFL3":
            raise ModelError(f"{name}: is not a TFLite model (it does not carry the mark TFL3 at byte 4)")
        try:
            self._read(data)
        except (struct.error, IndexError, UnicodeDecodeError, RecursionError) as error:
            raise ModelError(
                f"{name}: truncated or damaged TFLite model of {len(data):,} bytes ({error}); get a whole copy"
            ) from None

    def _read(self, data: bytes) -> None:
        self.data = data
        model = _Table(data, struct.unpack_from("<I", data, 0)[0])
        self.version = model.scalar(0, "<I")
        self._codes = [
            (max(code.scalar(0, "<b"), code.scalar(3, "<i")), code.bytes(1).decode()) for code in model.tables(1)
        ]
        self.weight_bytes = 0
        for buffer in model.tables(4):
            offset, size = buffer.scalar(1, "<Q"), buffer.scalar(2, "<Q")
            if offset > 1 and offset + size > len(data):
                raise struct.error(f"a buffer ends at {offset + size}")
            self.weight_bytes += buffer._vector(0, 1)[1] + size
        subgraphs = list(model.tables(2))
        if not subgraphs:
            raise struct.error("no subgraph")
        main = subgraphs[0]
        self.tensors = [self._tensor(t) for t in main.tables(0)]
        self.inputs = tuple(self.tensors[i] for i in main.scalars(1, "i"))
        self.outputs = tuple(self.tensors[i] for i in main.scalars(2, "i"))
        self._operators = [(op.scalar(0, "<I"), op.scalars(1, "i"), op.scalars(2, "i")) for op in main.tables(3)]
        if any(index >= len(self._codes) for index, _, _ in self._operators):
            raise struct.error("an operator without a code")
        if any(i >= len(self.tensors) for _, inputs, outputs in self._operators for i in (*inputs, *outputs)):
            raise struct.error("an operator without a tensor")

    @staticmethod
    def _tensor(table: _Table) -> Tensor:
        quantization = table.table(4)
        scales = quantization.scalars(2, "f") if quantization else ()
        zeros = quantization.scalars(3, "q") if quantization else ()
        kind = table.scalar(1, "<b")
        return Tensor(
            name=table.bytes(3).decode(),
            shape=table.scalars(0, "i"),
            dtype=_TYPES.get(kind, f"type {kind}"),
            scale=scales[0] if scales else None,
            zero_point=zeros[0] if zeros else 0,
        )

    @cached_property
    def operators(self) -> tuple[str, ...]:
        """Names of the operators used, each once, sorted."""
        used = {self._codes[index] for index, _, _ in self._operators}
        return tuple(sorted(custom or _OPERATORS.get(code, f"BUILTIN_{code}") for code, custom in used))

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of one inference: those of convolutions and fully connected layers."""
        macs = 0
        for name, inputs, outputs in self.weighted:
            # Filters: output channels first, but (1, height, width, channels) for the depthwise form.
            filters, output = self.tensors[inputs[1]].shape, self.tensors[outputs[0]].shape
            taps = filters[1:3] if name == "DEPTHWISE_CONV_2D" else filters[1:]
            macs += math.prod(output) * math.prod(taps)
        return macs

    @property
    def weighted(self) -> Iterator[tuple[str, tuple[int, ...], tuple[int, ...]]]:
        """Convolutions and fully connected layers in the order in which they run: name, numbers of the tensors that go
        in (values, filters, bias) and of those that come out."""
        for index, inputs, outputs in self._operators:
            name = _OPERATORS.get(self._codes[index][0])
            if name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
                yield name, inputs, outputs
