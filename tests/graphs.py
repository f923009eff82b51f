"""Small TFLite files, written by the bindings that LiteRT's or TensorFlow's package generates from ``schema.fbs``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def packed(schema, model) -> bytes:
    """The flatbuffer of a ``ModelT``."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def filled(kind, **fields):
    """An object of the bindings' class `kind` with these fields, which the class must have."""
    made = kind()
    for name, value in fields.items():
        assert hasattr(made, name), (kind.__name__, name)
        setattr(made, name, value)
    return made


@dataclass(frozen=True)
class Value:
    """A tensor of a graph. By default, 8-bit tensors have the scale 1 and the zero point 0."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    data: object = None
    """Values of a constant. The number 0 makes all values zero."""
    scales: tuple[float, ...] | None = None
    zero_points: tuple[int, ...] | None = None
    axis: int = 0
    variable: bool = False


def constant(values, dtype: str = "int32") -> Value:
    """A constant of whole numbers, such as a shape."""
    values = np.asarray(values, dtype)
    return Value(values.shape, dtype, values)


def _tensor(schema, value: Value, buffers: list):
    tensor = filled(
        schema.TensorT,
        shape=list(value.shape),
        type=getattr(schema.TensorType, value.dtype.upper()),
        name=f"t{len(buffers)}",
        isVariable=value.variable,
    )
    scales = value.scales
    if scales is None:
        scales = (1.0,) if value.dtype in ("int8", "uint8", "int16") else ()
    zeros = value.zero_points if value.zero_points is not None else (0,) * len(scales)
    if scales or zeros:
        tensor.quantization = filled(
            schema.QuantizationParametersT, scale=list(scales), zeroPoint=list(zeros), quantizedDimension=value.axis
        )
    if value.data is not None:
        content = np.broadcast_to(np.asarray(value.data, value.dtype), value.shape)
        buffers.append(filled(schema.BufferT, data=np.frombuffer(content.tobytes(), np.uint8)))
        tensor.buffer = len(buffers) - 1
    return tensor


def graph_of(schema, name: str, inputs: list, outputs: list, kind: str | None = None, **options) -> bytes:
    """A model of one operator.

    Members of `inputs` that are neither constants nor variables are inputs of the model. None is a missing optional
    input. `kind` names the options, for instance ``Conv2DOptions``.
    """
    buffers = [schema.BufferT()]
    tensors = [_tensor(schema, value, buffers) for value in (*inputs, *outputs) if value is not None]
    numbers, n = [], 0
    for value in inputs:
        numbers.append(-1 if value is None else n)
        n += value is not None
    made = list(range(n, n + len(outputs)))
    operator = filled(schema.OperatorT, opcodeIndex=0, inputs=numbers, outputs=made)
    if kind:
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        operator.builtinOptions = filled(getattr(schema, f"{kind}T"), **options)
    code = getattr(schema.BuiltinOperator, name)
    graph = filled(
        schema.SubGraphT,
        tensors=tensors,
        inputs=[i for i, v in zip(numbers, inputs, strict=True) if v is not None and v.data is None and not v.variable],
        outputs=made,
        operators=[operator],
        name="main",
    )
    codes = [filled(schema.OperatorCodeT, builtinCode=code, deprecatedBuiltinCode=min(code, 127), version=1)]
    return packed(schema, filled(schema.ModelT, version=3, operatorCodes=codes, subgraphs=[graph], buffers=buffers))
