"""Check what a runtime will do with a model, before the runtime does it.

Operators run in the file's order, and each one may only read tensors that are ready by then. The checks of
:mod:`kws_edge.model.tflite.operators` cover what the kernels of each operator assume.
"""

from __future__ import annotations

from kws_edge.errors import ModelError
from kws_edge.model.tflite.flat_model import FlatModel, Tensor, operator_macs
from kws_edge.model.tflite.flatbuffer import DamagedError
from kws_edge.model.tflite.node import Node, TypesError, UnprovenError, WrongError
from kws_edge.model.tflite.operators import LISTED
from kws_edge.model.tflite.schema import SIZES

__all__ = ["verify"]

_ARENA_BYTES = 64 * 2**20
_WORK = 2_000_000_000
"""Limits of one inference: bytes of its tensors; and work, which is its multiply-accumulates plus four for each value
read or written."""
_RANK = 4
_ZERO_POINTS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "int32": (0, 0), "int64": (0, 0)}
"""Allowed zero points of each type. Biases have 0."""
_Name = tuple[str | None, str | None]
"""Container and name of a variable."""
_SMALLEST, _LARGEST = 2.0**-126, 2.0**127
"""Allowed scales. Smaller ones are denormal."""


def verify(flat: FlatModel) -> list[str]:
    """Check that a runtime can run a model.

    Parameters
    ----------
    flat : FlatModel

    Returns
    -------
    list of str
        Parts that this version cannot check. The list is empty if the model has only operators of
        :data:`kws_edge.model.tflite.operators.LISTED` in their usual forms.

    Raises
    ------
    ModelError
        If the model contradicts itself, so that it would fail or end the process.
    """
    try:
        return _Verifier(flat).run()
    except (WrongError, DamagedError) as error:
        raise ModelError(f"{flat.name}: cannot be run: {error}; get a whole copy, or convert it anew") from None


class _Verifier:
    def __init__(self, flat: FlatModel) -> None:
        self.flat = flat
        self.unproven = [f"it has {odd}" for odd in flat.odd]
        self.bytes = self.work = 0
        self.checked: set[int] = set()
        # Variables outlive their graph: type and shape of each, by its name.
        self.variables: dict[_Name, tuple[str, tuple[int, ...]]] = {}

    def run(self) -> list[str]:
        if not self.flat.inputs or not self.flat.outputs:
            raise WrongError("it has no input or no output")
        self.graph(0)
        for number in range(len(self.flat.graphs)):
            if number not in self.checked:
                self.unproven.append(f"subgraph {number} is called in a way that is not checked here")
                self.graph(number)
        return list(dict.fromkeys(self.unproven))

    def graph(self, number: int) -> None:
        """Check a graph's tensors, then its operators in turn."""
        graph = self.flat.graphs[number]
        self.checked.add(number)
        where = f"subgraph {number}, " if number else ""
        used = {*graph.inputs, *graph.outputs}.union(*((*op.inputs, *op.outputs) for op in graph.operators)) - {-1}
        for i in sorted(used):
            self.tensor(graph.tensors[i], f"{where}tensor {i} ({graph.tensors[i].name})")
        ready = {i for i in used if graph.tensors[i].data or graph.tensors[i].variable}
        given = ready.union(graph.inputs)
        if len(given) < len(ready) + len(graph.inputs):
            raise WrongError(f"{where}an input is a constant, a variable, or another input")
        ready = set(given)
        read = {*graph.outputs}.union(*(op.inputs for op in graph.operators))
        if not read.issuperset(graph.inputs):
            self.unproven.append("an input is not read")
        handles: dict[int, _Name] = {}
        doubtful: set[int] = set()  # results of unknown operators, which may have another shape
        for i, op in enumerate(graph.operators):
            here = f"{where}operator {i} ({op.name})"
            for t in op.inputs:
                if t >= 0 and t not in ready:
                    raise WrongError(f"{here} reads tensor {t}, which nothing has computed before")
            for t in op.outputs:
                if t in ready:
                    raise WrongError(f"{here} writes tensor {t}, which has its values already")
                ready.add(t)
            if not read.issuperset(op.outputs):
                self.unproven.append(f"{op.name} makes what nothing reads")
            node = Node(self.flat, graph, op)
            try:
                self.operator(node, number, handles)
            except UnprovenError as error:
                self.unproven.append(f"{op.name} {error}")
                doubtful.update(op.outputs)
            except WrongError as error:
                if isinstance(error, TypesError) or doubtful.isdisjoint(op.inputs):
                    raise WrongError(f"{here} {error}") from None
            if not doubtful.isdisjoint(op.inputs):
                doubtful.update(op.outputs)
            tensors = filter(None, (*node.given, *node.outputs))
            self.work += node.work + 4 * sum(t.elements for t in tensors) + operator_macs(op, graph.tensors)
            self.bytes += node.scratch
            self.limit()
        made = ready if number else ready - given  # the caller of a subgraph copies its outputs
        if len(made.intersection(graph.outputs)) < len(graph.outputs):
            raise WrongError(f"{where}an output is computed by no operator, or is another output, too")

    def limit(self) -> None:
        if self.bytes > _ARENA_BYTES:
            raise WrongError(f"its tensors take more than {_ARENA_BYTES // 2**20} MB, too much for a keyword model")
        if self.work > _WORK:
            raise WrongError(f"it makes more than {_WORK // 10**9} billion operations, too many for a keyword model")

    def tensor(self, tensor: Tensor, what: str) -> None:
        if tensor.odd == "sparse values":
            raise WrongError(f"{what} has sparse values, which the kernels of keyword models do not read")
        if tensor.odd:
            self.unproven.append(f"a tensor has {tensor.odd}")
        if tensor.shape and min(tensor.shape) < 1:
            raise WrongError(f"{what} is of shape {list(tensor.shape)}")
        if tensor.dtype not in SIZES and tensor.dtype != "resource":
            self.unproven.append(f"a tensor is {tensor.dtype}")
        elif tensor.data:
            start, size = tensor.data
            if tensor.variable or tensor.dtype == "resource":
                raise WrongError(f"{what} is both constant and variable")
            if size != tensor.size:
                raise WrongError(
                    f"{what}, {tensor.dtype} {list(tensor.shape)}, takes {tensor.size:,} bytes, but has {size:,}"
                )
            if start % min(SIZES[tensor.dtype], 4):
                raise WrongError(f"{what} lies askew in the file")
        if not tensor.data:
            self.bytes += tensor.size
            self.limit()
        if tensor.dtype in _ZERO_POINTS and (tensor.scales or tensor.zero_points):
            _check_quantisation(tensor, what)

    def operator(self, node: Node, graph: int, handles: dict[int, _Name]) -> None:
        op = node.op
        form = LISTED.get(op.name)
        if form is None:
            raise UnprovenError("is not checked here")
        if op.odd:
            raise UnprovenError(f"has {op.odd}")
        if len(op.inputs) not in form.inputs or len(op.outputs) not in form.outputs:
            raise WrongError(f"has {len(op.inputs)} inputs and {len(op.outputs)} outputs")
        for i, given in enumerate(node.given):
            if given is None and i not in form.optional:
                raise WrongError(f"lacks its input {i}")
        if op.kind not in (0, form.options):
            raise WrongError(f"has the options of another operator (kind {op.kind})")
        if form.required and not (op.kind and op.options):
            raise WrongError("lacks its options")
        for tensor in filter(None, (*node.given, *node.outputs)):
            if len(tensor.shape) > _RANK:
                raise UnprovenError(f"works on {len(tensor.shape)} dimensions")
            if tensor.variable and op.name != "SVDF":
                raise UnprovenError("works on a variable")
        if op.inputs and all(given is None or given.data for given in node.given):
            raise UnprovenError("works on constants alone")
        if form.check:
            form.check(node)
        elif op.name == "CALL_ONCE":
            self.call_once(node, graph)
        else:
            self.variable(node, handles)

    def call_once(self, node: Node, graph: int) -> None:
        called = node.option(0, "i")
        if graph or not 0 < called < len(self.flat.graphs):
            raise WrongError(f"calls subgraph {called}")
        if self.flat.graphs[called].inputs or self.flat.graphs[called].outputs:
            raise WrongError(f"calls subgraph {called}, which has inputs or outputs")
        if called not in self.checked:
            self.graph(called)

    def variable(self, node: Node, handles: dict[int, _Name]) -> None:
        """Check the handles of variables, the reads from them, and the assignments to them."""
        op, handle = node.op, (*node.inputs, *node.outputs)[0]
        if handle.dtype != "resource" or handle.elements != 1:
            raise WrongError(f"takes {handle.dtype} {list(handle.shape)} for the handle of a variable")
        if op.name == "VAR_HANDLE":
            assert op.options  # its form requires options
            handles[op.outputs[0]] = op.options.text(0), op.options.text(1)
            return
        name = handles.get(op.inputs[0])
        if name is None:
            raise UnprovenError("uses a handle that its graph does not make")
        assigned = op.name == "ASSIGN_VARIABLE"
        value = node.inputs[1] if assigned else node.outputs[0]
        if value.dtype not in SIZES:
            raise UnprovenError(f"works on {value.dtype}")
        known = self.variables.get(name)
        if known is None:
            if not assigned:
                raise WrongError("reads a variable that nothing was assigned to before")
            self.variables[name] = value.dtype, value.shape
        elif known != (value.dtype, value.shape):
            raise WrongError(f"takes a variable of {known[0]} {list(known[1])} for {value.dtype} {list(value.shape)}")


def _check_quantisation(tensor: Tensor, what: str) -> None:
    if len(tensor.zero_points) != len(tensor.scales):
        raise WrongError(f"{what} has {len(tensor.scales)} scales, but {len(tensor.zero_points)} zero points")
    for scale in tensor.scales:
        if not _SMALLEST <= scale <= _LARGEST:
            raise WrongError(f"{what} has a quantisation scale of {scale:g}")
    low, high = _ZERO_POINTS[tensor.dtype]
    if not low <= min(tensor.zero_points) <= max(tensor.zero_points) <= high:
        raise WrongError(f"{what} is {tensor.dtype} with a zero point of {max(tensor.zero_points, key=abs)}")
