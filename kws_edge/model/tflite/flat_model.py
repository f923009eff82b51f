"""The structure of a TFLite file: everything that a runtime visits, read within bounds.

Field numbers are those of TensorFlow Lite's ``schema.fbs``, version 3.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, cast

from kws_edge.errors import ModelError
from kws_edge.model.tflite.flatbuffer import DamagedError, Reader, Table
from kws_edge.model.tflite.schema import CUSTOM, OPERATORS, SIZES, TYPES

__all__ = ["FlatModel", "Graph", "Operator", "Tensor"]

_MOST = 10_000  # tensors or operators of a file, or numbers in a list
_DIMENSIONS = 16
_MACS_BY_TENSOR: dict[str, tuple[int, ...]] = {
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (*range(1, 9), 16),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (1, 2),
}
_LEFT_OUT = {
    *("BIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_RNN", "LSTM", "RNN", "RFFT2D"),
    *("CALL", "CONV_3D", "CONV_3D_TRANSPOSE", "DELEGATE", "EMBEDDING_LOOKUP_SPARSE", "IF", "WHILE"),
}

_OTHERS = (
    (b"version https://git-lfs", "is a pointer of Git LFS, not the model itself; fetch it with `git lfs pull`"),
    (b"\x1f\x8b", "is a gzip archive, not a TFLite model; unpack it"),
    (b"\x89HDF\r\n", "is an HDF5 file (Keras .h5), not a TFLite model; save it as .keras, and kws-host import that"),
    (b"\x80\x02", "is a Python pickle (PyTorch?), not a TFLite model; convert it"),
    (b"BZh", "is a bzip2 archive, not a TFLite model; unpack it"),
    (b"\xfd7zXZ", "is an xz archive, not a TFLite model; unpack it"),
    (b"7z\xbc\xaf", "is a 7z archive, not a TFLite model; unpack it"),
    (b"RIFF", "is a RIFF file (WAV?), not a TFLite model"),
)
"""First bytes of other kinds of files."""
_ARCHIVES = (
    (b"config.json", b"model.weights.h5", "is a Keras model (.keras); make a model file of it with `kws-host import`"),
    (b"/data.pkl", b"/version", "is a PyTorch model; convert it to TFLite"),
    (b"", b"", "is a ZIP archive, not a TFLite model; unpack it"),
)
"""Kinds of ZIP archives, by names of files in them."""


@dataclass(frozen=True)
class Tensor:
    """Shape, type, quantisation and content of a tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    """The first scale; 0 if the tensor is not quantised."""
    zero_point: int
    scales: tuple[float, ...] = ()
    """One scale, or one for each channel."""
    zero_points: tuple[int, ...] = ()
    axis: int = 0
    """The dimension of the channels that the scales belong to."""
    data: tuple[int, int] | None = None
    """Offset in the file and number of bytes of a constant's values."""
    variable: bool = False
    """Whether the tensor keeps its values from one inference to the next."""
    odd: str = ""
    """A property that keyword models do not have, such as sparse values."""

    @cached_property
    def elements(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @cached_property
    def size(self) -> int:
        """Bytes of the values. If the type has no fixed size, this is a lower bound."""
        return self.elements * SIZES.get(self.dtype, 1)


class Operator(NamedTuple):
    """One step of a graph."""

    name: str
    """Name of the operator. For a custom operator, its own name follows ``CUSTOM``."""
    version: int
    inputs: tuple[int, ...]
    """Numbers of the input tensors; -1 for an optional input that is missing."""
    outputs: tuple[int, ...]
    kind: int
    """Kind of the options."""
    options: Table | None
    odd: str


class Graph(NamedTuple):
    """A subgraph. The first one is the model, and its operators call the others."""

    name: str
    tensors: list[Tensor]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: list[Operator]


class FlatModel:
    """A TFLite flatbuffer whose structure has been checked.

    A file that can be read cannot always be run. See :func:`kws_edge.model.tflite.verify`.

    Parameters
    ----------
    data : bytes
        The file. Data after the flatbuffer are ignored.
    name : str
        Name of the file in error messages.

    Attributes
    ----------
    graphs : list of Graph
    tensors : list of Tensor
        Tensors of the first graph, including `inputs` and `outputs`.
    signatures : list of str
        Names of the entry points that the file declares.
    odd : list of str
        Parts of the file that this version does not check.

    Raises
    ------
    ModelError
        If the file is not a TFLite model, or is cut short.
    """

    def __init__(self, data: bytes, name: str) -> None:
        _check_kind(data, name)
        self.data, self.name = data, name
        try:
            self._read(Reader(data))
        except (DamagedError, struct.error) as error:
            raise ModelError(
                f"{name}: truncated or damaged TFLite model of {len(data):,} bytes ({error}); get a whole copy"
            ) from None

    def _read(self, reader: Reader) -> None:
        model = reader.root(10)
        self.version = model.scalar(0, "I")
        codes = [self._code(code) for code in _few(model.tables(1, 4))]
        self._buffers = [self._buffer(buffer) for buffer in _few(model.tables(4, 3))]
        self.weight_bytes = sum(size for _, size in filter(None, self._buffers))
        self.odd = ["buffers in other files"] * any(model.vector(field, 4)[1] for field in (8, 9))
        self._count = 0
        self.graphs = [self._graph(graph, codes) for graph in model.tables(2, 6)]
        if not self.graphs:
            raise DamagedError("no subgraph")
        main = self.graphs[0]
        self.tensors = main.tensors
        self.inputs = tuple(self.tensors[i] for i in main.inputs)
        self.outputs = tuple(self.tensors[i] for i in main.outputs)
        self._rest(model)
        if reader.newer:
            self.odd.append("fields of a newer format")

    def _rest(self, model: Table) -> None:
        """Read descriptions, metadata and signatures."""
        model.text(3)
        self._numbers(model.scalars(5, "i", most=_MOST), len(self._buffers), "a buffer")
        for entry in _few(model.tables(6, 2)):
            self._numbers([entry.scalar(1, "I")], len(self._buffers), "a buffer")
            if entry.text(0) == "model_control_dependencies":
                self.odd.append("control dependencies")
        self.signatures = []
        for signature in _few(model.tables(7, 5)):
            number = signature.scalar(4, "I")
            self._numbers([number], len(self.graphs), "a subgraph")
            for field in (0, 1):
                for entry in _few(signature.tables(field, 2)):
                    self._numbers([entry.scalar(1, "I")], len(self.graphs[number].tensors), "a tensor")
                    if entry.text(0) is None:
                        raise DamagedError("a signature's tensor without a name")
            key = signature.text(2)
            if key is None:
                raise DamagedError("a signature without a name")
            self.signatures.append(key)

    @staticmethod
    def _numbers(numbers: Iterable[int], end: int, what: str, *, lowest: int = 0) -> None:
        for number in numbers:
            if not lowest <= number < end:
                raise DamagedError(f"{what} of number {number}")

    @staticmethod
    def _code(table: Table) -> tuple[str, int]:
        number = max(table.scalar(0, "b"), table.scalar(3, "i"))
        name, own = OPERATORS.get(number, f"BUILTIN_{number}"), table.text(1)
        return f"{name} {own}" if number == CUSTOM and own else name, table.scalar(2, "i", 1)

    def _buffer(self, table: Table) -> tuple[int, int] | None:
        start, size = table.vector(0, 1)
        if not size:
            start, size = table.scalar(1, "Q"), table.scalar(2, "Q")  # behind the flatbuffer
            if start <= 1 or not size:
                return None
            if start + size > len(self.data):
                raise DamagedError(f"a buffer ends at {start + size}")
        return start, size

    def _graph(self, table: Table, codes: list[tuple[str, int]]) -> Graph:
        tensors = [self._tensor(t) for t in self._counted(table.tables(0, 11))]
        inputs, outputs = (table.scalars(field, "i", most=_MOST) for field in (1, 2))
        self._numbers((*inputs, *outputs), len(tensors), "a tensor")
        operators = [self._operator(op, codes, len(tensors)) for op in self._counted(table.tables(3, 14))]
        return Graph(table.text(4) or "", tensors, inputs, outputs, operators)

    def _counted(self, tables: Iterator[Table]) -> Iterator[Table]:
        for table in tables:
            self._count += 1
            if self._count > _MOST:
                raise DamagedError(f"more than {_MOST:,} tensors and operators")
            yield table

    def _operator(self, table: Table, codes: list[tuple[str, int]], n_tensors: int) -> Operator:
        number = table.scalar(0, "I")
        self._numbers([number], len(codes), "an operator's code")
        inputs, outputs = (table.scalars(field, "i", most=_MOST) for field in (1, 2))
        self._numbers(inputs, n_tensors, "a tensor", lowest=-1)
        self._numbers(outputs, n_tensors, "a tensor")
        self._numbers(table.scalars(8, "i", most=_MOST), n_tensors, "a tensor", lowest=-1)
        table.vector(5, 1)
        table.vector(7, 1)
        if sum(table.scalar(field, "Q") for field in (9, 10)) > len(self.data):
            raise DamagedError("options that lie outside of the file")
        odd = "intermediate tensors" if table.vector(8, 4)[1] else ""
        if any(table.at(field, size) for field, size in ((5, 4), (9, 8), (10, 8), (11, 1), (12, 4))):
            odd = "options of a custom kind"
        name, version = codes[number]
        return Operator(name, version, inputs, outputs, table.scalar(3, "B"), table.table(4), odd)

    def _tensor(self, table: Table) -> Tensor:
        quantization = table.table(4, 7)
        scales: tuple[float, ...] = ()
        zeros: tuple[int, ...] = ()
        axis, odd = 0, ""
        if quantization:
            for field in (0, 1):
                quantization.vector(field, 4)
            scales = quantization.scalars(2, "f", most=_MOST)
            zeros = quantization.scalars(3, "q", most=_MOST)
            axis = quantization.scalar(6, "i")
            if quantization.scalar(4, "B"):
                odd = "a quantisation of its own"
        buffer = table.scalar(2, "I")
        self._numbers([buffer], len(self._buffers), "a buffer")
        if table.scalar(10, "I"):
            odd = "values in another file"
        for field, what in ((6, "sparse values"), (9, "a type made of others")):
            if table.at(field):
                odd = what
        table.vector(7, 4)
        kind, shape = table.scalar(1, "b"), table.scalars(0, "i", most=_DIMENSIONS)
        if shape and min(shape) < 0:
            raise DamagedError(f"a tensor of shape {list(shape)}")
        return Tensor(
            name=table.text(3) or "",
            shape=shape,
            dtype=TYPES.get(kind, f"type {kind}"),
            scale=scales[0] if scales else 0.0,
            zero_point=zeros[0] if zeros else 0,
            scales=scales,
            zero_points=zeros,
            axis=axis,
            data=self._buffers[buffer] if buffer else None,
            variable=bool(table.scalar(5, "?")),
            odd=odd,
        )

    @cached_property
    def operators(self) -> tuple[str, ...]:
        """Names of the operators of all graphs, each once, sorted."""
        return tuple(sorted({operator.name for graph in self.graphs for operator in graph.operators}))

    @cached_property
    def stateful(self) -> bool:
        """Whether an inference depends on earlier ones."""
        return "VAR_HANDLE" in self.operators or any(t.variable for graph in self.graphs for t in graph.tensors)

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of one inference in convolutions, matrix products and recurrent layers.

        Element-by-element operators and pooling count as 0. See :attr:`uncounted`.
        """
        return sum(operator_macs(operator, self.tensors) for operator in self.graphs[0].operators)

    @cached_property
    def uncounted(self) -> tuple[str, ...]:
        """Names of operators whose multiply-accumulates :attr:`macs` cannot count."""
        names = {operator.name for operator in self.graphs[0].operators}
        return tuple(sorted(n for n in names if n in _LEFT_OUT or n.startswith(("CUSTOM", "BUILTIN"))))

    @property
    def weighted(self) -> Iterator[tuple[str, tuple[int, ...], tuple[int, ...]]]:
        """Yield the convolutions and fully connected layers in the order in which they run.

        Each item has the name, the numbers of the input tensors (values, filters, bias), and those of the outputs.
        """
        for operator in self.graphs[0].operators:
            if operator.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
                yield operator.name, operator.inputs, operator.outputs


def operator_macs(operator: Operator, tensors: list[Tensor]) -> int:
    """Multiply-accumulates of an operator; 0 if its tensors do not fit the operator."""
    inputs = cast("list[Tensor]", [tensors[i] if i >= 0 else None for i in operator.inputs])  # None fits nothing
    outputs = [tensors[i] for i in operator.outputs]
    try:
        match operator.name:
            # Filters have the output channels first; depthwise filters are (1, height, width, channels).
            case "CONV_2D" | "FULLY_CONNECTED":
                return outputs[0].elements * math.prod(inputs[1].shape[1:])
            case "DEPTHWISE_CONV_2D":
                return outputs[0].elements * math.prod(inputs[1].shape[1:3])
            case "TRANSPOSE_CONV":
                return inputs[2].elements * math.prod(inputs[1].shape[:3])
            case "SVDF":
                return inputs[0].shape[0] * (inputs[1].elements + inputs[2].elements)
            case "BATCH_MATMUL":
                adjoint = bool(operator.options and operator.options.scalar(0, "?"))
                return outputs[0].elements * inputs[0].shape[-2 if adjoint else -1]
            case "UNIDIRECTIONAL_SEQUENCE_LSTM" | "UNIDIRECTIONAL_SEQUENCE_RNN":
                weights = (inputs[i] for i in _MACS_BY_TENSOR[operator.name] if i < len(inputs) and inputs[i])
                return math.prod(inputs[0].shape[:2]) * sum(tensor.elements for tensor in weights)
    except (IndexError, AttributeError, DamagedError):
        pass
    return 0


def _few(tables: Iterator[Table]) -> Iterator[Table]:
    for i, table in enumerate(tables):
        if i >= _MOST:
            raise DamagedError(f"more than {_MOST:,} entries")
        yield table


def _check_kind(data: bytes, name: str) -> None:
    """Raise an error that names the kind of a file that is not a TFLite model."""
    if data[4:8] == b"TFL3":
        return
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ModelError(f"{name}: is a web page, not a TFLite model; download the file itself")
    if not data:
        raise ModelError(f"{name}: is empty")
    for begin, what in _OTHERS:
        if data.startswith(begin):
            raise ModelError(f"{name}: {what}")
    if data.startswith(b"PK\3\4"):
        raise ModelError(f"{name}: {next(what for *names, what in _ARCHIVES if all(part in data for part in names))}")
    if data[:1] == b"\x08" and any(tool in data[:256] for tool in (b"onnx", b"pytorch", b"tf2onnx", b"keras2onnx")):
        raise ModelError(f"{name}: is an ONNX model, not a TFLite model; convert it")
    raise ModelError(f"{name}: is not a TFLite model (it does not carry the mark TFL3 at byte 4)")
