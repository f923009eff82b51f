"""A network with state in a runtime: what is new and its own past in, scores of each step and the next past out."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from kws_edge.errors import ModelError
from kws_edge.model.interpreter import Interpreter
from kws_edge.model.tflite import FlatModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["StepInterpreter", "check_states"]


class _Memory:
    """The bytes of a tensor in a runtime, which does not know that they are held.

    A runtime refuses to run while an array of its own holds a tensor's memory. Use this only as long as the runtime's
    interpreter lives and allocates nothing.
    """

    def __init__(self, native: Any, index: int) -> None:
        tensor = native.tensor(index)()
        data = tensor.__array_interface__["data"]
        self.__array_interface__ = {"version": 3, "typestr": "|u1", "shape": (tensor.nbytes,), "data": data}

    @property
    def view(self) -> memoryview:
        """The bytes, writable: copying between such views takes a tenth of the time that arrays take."""
        return memoryview(np.asarray(self).data)


class _States:
    """The states' tensors of one native interpreter, and the stream whose past they hold."""

    def __init__(self, native: Any) -> None:
        self.owner: StepInterpreter | None = None
        indices = [detail["index"] for detail in native.get_input_details()[1:]]
        indices += [detail["index"] for detail in native.get_output_details()[1:]]
        native.invoke()  # a runtime gives some tensors their place only now
        memories = [_Memory(native, index) for index in indices]
        native.invoke()
        for memory, index in zip(memories, indices, strict=True):
            if memory.__array_interface__ != _Memory(native, index).__array_interface__:
                raise RuntimeError(f"tensor {index} moves in memory from one inference to the next")
        views = [memory.view for memory in memories]
        self.past = views[: len(views) // 2]
        self.pairs = list(zip(self.past, views[len(views) // 2 :], strict=True))
        """Each state, and its successor."""


def check_states(flat: FlatModel) -> None:
    """Raise an error unless each state can be copied from the output that follows it.

    Raises
    ------
    ModelError
        If there is no state, or one and its successor differ in shape, type or quantisation.
    """
    if len(flat.inputs) < 2 or len(flat.inputs) != len(flat.outputs):
        raise ModelError(
            f"{flat.name}: has {len(flat.inputs)} inputs and {len(flat.outputs)} outputs; a network with state has as "
            "many of each, levels and scores first"
        )
    for before, after in zip(flat.inputs[1:], flat.outputs[1:], strict=True):
        same = (before.shape, before.dtype, before.scale, before.zero_point)
        if same != (after.shape, after.dtype, after.scale, after.zero_point):
            raise ModelError(f"{flat.name}: the state {before.name} is not given back as it is taken")


class StepInterpreter(Interpreter):
    """A network with state in a runtime, and the states of one stream.

    The states are copied as bytes. A stream begins with states that are their zero points.

    Parameters
    ----------
    flat : FlatModel
        Of inputs levels, shape (1, frames, 1, mels), and states; of outputs scores, shape (1, steps, 1, words), and the
        next states in the same order.
    runtime, threads, kernels
        As for :class:`kws_edge.model.interpreter.Interpreter`.

    Raises
    ------
    ModelError
        If the model is of another form, or the runtime refuses it.
    """

    def __init__(self, flat: FlatModel, **options: Any) -> None:
        check_states(flat)
        super().__init__(flat, **options)

    def _load(self) -> None:
        super()._load()
        self.hop_frames = self.flat.inputs[0].shape[1]
        """Frames of each call of :meth:`invoke`."""
        self._bind()
        self.reset()

    def _bind(self) -> None:
        try:
            self._states = _States(self._interpreter)
        except RuntimeError as error:
            raise ModelError(f"{self.flat.name}: {self.runtime} cannot keep its states: {error}") from None

    def another(self, hop_frames: int | None = None) -> StepInterpreter:
        """One for another stream, which takes `hop_frames` at a time; by default as many as this one.

        If it takes as many as this one, both run in one native interpreter, in turns.
        """
        other = copy.copy(self)
        hop_frames = hop_frames or self.hop_frames
        if hop_frames == self.hop_frames:
            other.reset()
        else:
            other._load()
            other._resize(hop_frames)
        return other

    def _resize(self, hop_frames: int) -> None:
        one, _, *rest = self.flat.inputs[0].shape
        try:
            self._interpreter.resize_tensor_input(self._input, [one, hop_frames, *rest])
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{self.flat.name}: {self.runtime} cannot take {hop_frames} frames: {error}") from None
        self.hop_frames = hop_frames
        self._bind()

    def reset(self) -> None:
        """Forget what was heard."""
        states = zip(self.flat.inputs[1:], self._states.past, strict=True)
        self._past = [bytes([tensor.zero_point % 256]) * view.nbytes for tensor, view in states]
        if self._states.owner is self:
            self._states.owner = None

    def _take(self) -> None:
        """Keep the past of the stream that ran last, and put this stream's past in its place."""
        states = self._states
        if states.owner is not None:
            states.owner._past = [bytes(state) for state in states.past]
        for state, past in zip(states.past, self._past, strict=True):
            state[:] = past
        states.owner = self

    def invoke(self, values: NDArray[Any]) -> NDArray[Any]:
        """Take the levels of one hop.

        Parameters
        ----------
        values : numpy.ndarray, shape (1, hop_frames, 1, mels), of the input's dtype

        Returns
        -------
        numpy.ndarray, shape (1, steps, 1, words), of the output's dtype
        """
        states = self._states
        if states.owner is not self:
            self._take()
        scores = super().invoke(values)
        for state, following in states.pairs:
            state[:] = following
        return scores
