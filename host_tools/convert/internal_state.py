"""A step graph that keeps its states itself: variables instead of further inputs and outputs.

It computes the same bytes. Each state becomes a variable, which the first inference sets to the state of a stream that
begins. A variable is read where it is first needed, and assigned as soon as its next value is known.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

__all__ = ["StatefulGraph"]

_OPERATORS, _OPTIONS, _TYPES = schema.BuiltinOperator, schema.BuiltinOptions, schema.TensorType
_LARGEST_OLD_CODE = 127
"""Codes of later operators have a field of their own."""


class StatefulGraph:
    """A model of TensorFlow's schema that is being changed from a step graph to one with variables.

    Parameters
    ----------
    model : ModelT
        As :func:`host_tools.convert.compact.opened` gives it. It is changed.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.graph = model, model.subgraphs[0]

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        kind: int = _TYPES.INT8,
        *,
        scale: float | None = None,
        zero_point: int = 0,
        values: np.ndarray | None = None,
        graph: Any = None,
    ) -> int:
        """Add a tensor to `graph`, by default the first. Returns its number."""
        tensor = schema.TensorT()
        tensor.name, tensor.type = name.encode(), kind
        tensor.shape, tensor.hasRank = np.array(shape, np.int32), bool(shape)
        tensor.buffer = self.buffer(values)
        tensor.quantization = _quantisation(scale, zero_point)
        tensors = (graph or self.graph).tensors
        tensors.append(tensor)
        return len(tensors) - 1

    def buffer(self, values: np.ndarray | None) -> int:
        """Add a buffer with these values, or none. Returns its number."""
        buffer = schema.BufferT()
        buffer.data = None if values is None else np.frombuffer(values.tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        return len(self.model.buffers) - 1

    def operator(self, name: str, inputs: list[int], outputs: list[int], options: Any = None) -> Any:
        """An operator of the first version that is not yet in a graph, with `options` if its kind has any."""
        code, operator = getattr(_OPERATORS, name), schema.OperatorT()
        operator.opcodeIndex = self._code(code)
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(_OPTIONS, type(options).__name__.removesuffix("T"))
        return operator

    def _code(self, code: int) -> int:
        for number, known in enumerate(self.model.operatorCodes):
            if (known.builtinCode, known.version) == (code, 1):
                return number
        new = schema.OperatorCodeT()
        new.builtinCode, new.deprecatedBuiltinCode, new.version = code, min(code, _LARGEST_OLD_CODE), 1
        self.model.operatorCodes.append(new)
        return len(self.model.operatorCodes) - 1

    def reshaped(self, source: int, target: int) -> Any:
        """An operator that gives `source` the shape of `target`."""
        shape = np.asarray(self.graph.tensors[target].shape, np.int32)
        return self.operator(
            "RESHAPE", [source, self.tensor("shape", shape.shape, _TYPES.INT32, values=shape)], [target]
        )

    def is_a(self, operator: Any, name: str) -> bool:
        """Whether an operator is of this kind."""
        return self.model.operatorCodes[operator.opcodeIndex].builtinCode == getattr(_OPERATORS, name)

    def keep_states(self) -> None:
        """Make a variable of each state: every input but the first, and every output but the first."""
        graph = self.graph
        states, following = list(graph.inputs[1:]), list(graph.outputs[1:])
        begin = schema.SubGraphT()
        begin.name, begin.tensors, begin.inputs, begin.outputs, begin.operators = b"begin", [], [], [], []
        handles, reads, assigns = [], {}, {}
        for number, (state, after) in enumerate(zip(states, following, strict=True)):
            name, tensor = f"state{number}", graph.tensors[state]
            handle, made = self._handle(name, graph)
            handles.append(made)
            reads[state] = self.operator("READ_VARIABLE", [handle], [state], schema.ReadVariableOptionsT())
            assigns[after] = (
                state,
                self.operator("ASSIGN_VARIABLE", [handle, after], [], schema.AssignVariableOptionsT()),
            )
            handle, made = self._handle(name, begin)
            zero = int(tensor.quantization.zeroPoint[0])
            values = np.full(tensor.shape, zero, np.int8)
            scale = float(tensor.quantization.scale[0])
            first = self.tensor(name, values.shape, scale=scale, zero_point=zero, values=values, graph=begin)
            begin.operators += [
                made,
                self.operator("ASSIGN_VARIABLE", [handle, first], [], schema.AssignVariableOptionsT()),
            ]
        self.model.subgraphs.append(begin)
        once = schema.CallOnceOptionsT()
        once.initSubgraphIndex = len(self.model.subgraphs) - 1
        graph.operators = [
            self.operator("CALL_ONCE", [], [], once),
            *handles,
            *self._ordered(graph.operators, reads, assigns),
        ]
        graph.inputs, graph.outputs = graph.inputs[:1], graph.outputs[:1]

    def _handle(self, name: str, graph: Any) -> tuple[int, Any]:
        """The handle of a variable in a graph, and the operator that makes it."""
        number = self.tensor(name, (), _TYPES.RESOURCE, graph=graph)
        options = schema.VarHandleOptionsT()
        options.container, options.sharedName = b"", name.encode()
        return number, self.operator("VAR_HANDLE", [], [number], options)

    def _ordered(self, operators: list, reads: dict[int, Any], assigns: dict[int, tuple[int, Any]]) -> list:
        """The operators with reads and assignments among them. Slices that make next states come early.

        So few states are in memory at a time.
        """
        early: dict[int, list] = {}
        for operator in operators:
            if operator.outputs[0] in assigns and self.is_a(operator, "STRIDED_SLICE"):
                early.setdefault(int(operator.inputs[0]), []).append(operator)
        moved = {id(operator) for several in early.values() for operator in several}
        ordered: list = []

        def put(operator: Any) -> None:
            ordered.extend(reads.pop(number) for number in map(int, operator.inputs) if number in reads)
            ordered.append(operator)
            for number in map(int, operator.outputs):
                if number in assigns:
                    state, assign = assigns[number]
                    ordered.extend([reads.pop(state)] if state in reads else [])
                    ordered.append(assign)
                for one in early.get(number, ()):
                    put(one)

        for operator in operators:
            if id(operator) not in moved:
                put(operator)
        return ordered


def _quantisation(scale: float | None, zero_point: int) -> Any:
    found = schema.QuantizationParametersT()
    if scale is not None:
        found.scale, found.zeroPoint = np.array([scale], np.float32), np.array([zero_point], np.int64)
    return found
