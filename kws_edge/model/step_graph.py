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
        native = self._interpreter
        self._states = [detail["index"] for detail in native.get_input_details()[1:]]
        self._next = [detail["index"] for detail in native.get_output_details()[1:]]
        self.hop_frames = self.flat.inputs[0].shape[1]
        """Frames of each call of :meth:`invoke`."""
        self.reset()

    def another(self, hop_frames: int | None = None) -> StepInterpreter:
        """One for another stream, which takes `hop_frames` at a time; by default as many as this one."""
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

    def reset(self) -> None:
        """Forget what was heard."""
        self._past = [np.full(t.shape, t.zero_point, t.dtype) for t in self.flat.inputs[1:]]

    def invoke(self, values: NDArray[Any]) -> NDArray[Any]:
        """Take the levels of one hop.

        Parameters
        ----------
        values : numpy.ndarray, shape (1, hop_frames, 1, mels), of the input's dtype

        Returns
        -------
        numpy.ndarray, shape (1, steps, 1, words), of the output's dtype
        """
        native = self._interpreter
        for index, state in zip(self._states, self._past, strict=True):
            native.set_tensor(index, state)
        scores = super().invoke(values)
        self._past = [native.get_tensor(index) for index in self._next]
        return scores
