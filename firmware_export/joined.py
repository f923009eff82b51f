"""Join a model and an encoder's head into one network, which TFLite Micro runs in one inference."""

from __future__ import annotations

from typing import Any

from kws_edge.errors import RuntimeUnavailableError
from kws_edge.model.tflite import FlatModel

__all__ = ["joined"]

_MARK = b"TFL3"
_ALIGNMENT = 16
"""Bytes, as TFLite's schema wants it of constants."""


def joined(flat: FlatModel, tap: int, head: bytes) -> FlatModel:
    """Return `flat` with a second output: what `head` makes of the layer `tap`.

    The scales of the layer and of the head's input differ, so an operator QUANTIZE leads from one to the other.

    Parameters
    ----------
    flat : FlatModel
        A model of clips with one output.
    tap : int
        Number of the layer's tensor.
    head : bytes
        A TFLite flatbuffer with one input of the layer's size.

    Raises
    ------
    RuntimeUnavailableError
        If tflite-micro is not installed.
    """
    try:
        from flatbuffers import Builder
        from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"{error}; taught words need TFLite Micro's schema, of pip install --pre tflite-micro"
        ) from None
    model, added = schema.ModelT.InitFromPackedBuf(flat.data, 0), schema.ModelT.InitFromPackedBuf(head, 0)
    graph, more = model.subgraphs[0], added.subgraphs[0]
    n_tensors, n_codes, n_buffers = len(graph.tensors), len(model.operatorCodes), len(model.buffers)
    model.buffers += added.buffers
    model.operatorCodes += [*added.operatorCodes, _code(schema)]
    for tensor in more.tensors:
        tensor.buffer += n_buffers
    graph.tensors += more.tensors
    bridge = schema.OperatorT()
    bridge.opcodeIndex = len(model.operatorCodes) - 1
    bridge.inputs, bridge.outputs = [tap], [more.inputs[0] + n_tensors]
    bridge.builtinOptionsType, bridge.builtinOptions = schema.BuiltinOptions.QuantizeOptions, schema.QuantizeOptionsT()
    for operator in more.operators:
        operator.opcodeIndex += n_codes
        operator.inputs = [i if i < 0 else i + n_tensors for i in operator.inputs]
        operator.outputs = [i + n_tensors for i in operator.outputs]
    graph.operators += [bridge, *more.operators]
    graph.outputs = [*graph.outputs, more.outputs[0] + n_tensors]
    model.signatureDefs, model.metadata, model.metadataBuffer = [], [], []

    class Aligned(Builder):
        """Puts the bytes of constants where kernels can load vectors of them."""

        def StartVector(self, size: int, n: int, alignment: int) -> int:  # noqa: N802
            started: int = super().StartVector(size, n, _ALIGNMENT if size == 1 else alignment)
            return started

    builder = Aligned(len(flat.data) + len(head))
    builder.Finish(model.Pack(builder), file_identifier=_MARK)
    return FlatModel(bytes(builder.Output()), flat.name)


def _code(schema: Any) -> Any:
    """The operator code of QUANTIZE."""
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.QUANTIZE
    code.version = 1
    return code
