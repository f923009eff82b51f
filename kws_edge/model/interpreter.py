"""One face for the interpreters of all TFLite runtimes."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from kws_edge.errors import ModelError
from kws_edge.model.runtime import THREADS, load_native
from kws_edge.model.tflite import FlatModel, verify

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Interpreter"]


class Interpreter:
    """A model in a runtime: one input tensor, one output tensor.

    The runtimes take a model at its word. So it is verified first; one with parts that this version does not know is
    tried in a process of its own before it runs in this one.

    Parameters
    ----------
    flat : FlatModel
    runtime : str
        A name of :data:`RUNTIMES`, or ``auto`` for the first one that loads.
    threads : int
    kernels : {"fast", "builtin", "reference"}
        ``fast`` is what the runtime prefers (XNNPACK); its results may differ by a few steps of the output from one
        machine to another. ``builtin`` is without delegates: the same bits in LiteRT and tflite-runtime; but LiteRT's
        (2.1.6) on 64-bit Arm round otherwise, up to ten steps of the output. TFLite Micro gives these bits, too, where
        every convolution ends in a ReLU: a negative half is rounded otherwise there. ``reference`` is plain code, the
        same bits everywhere, and very slow. Its convolutions are TFLite Micro's; its SUM and RELU6 are not.

    Attributes
    ----------
    runtime, version : str
        Of the runtime that was loaded.
    unproven : list of str
        What made a trial necessary; empty for a model that is verified.

    Raises
    ------
    RuntimeUnavailableError
        If no runtime can be loaded.
    ModelError
        If the model contradicts itself, or the runtime refuses it.
    ConfigError
        If `threads` is out of range.
    """

    def __init__(self, flat: FlatModel, *, runtime: str = "auto", threads: int = 1, kernels: str = "fast") -> None:
        self.flat = flat
        threads = int(THREADS.check("threads", threads))
        self._how: dict[str, Any] = {"runtime": runtime, "threads": threads, "kernels": kernels}
        self.unproven = verify(flat)
        if self.unproven:
            from kws_edge.model.trial import try_out  # which few models need

            try_out(flat, self.unproven, **self._how)
        self._load()

    def _load(self) -> None:
        try:
            self._interpreter, self.runtime, self.version = load_native(self.flat.data, **self._how)
            self._input = self._interpreter.get_input_details()[0]["index"]
            self._output = self._interpreter.get_output_details()[0]["index"]
        except ModelError as error:
            raise ModelError(f"{self.flat.name}: {error}") from None
        except IndexError:
            raise ModelError(f"{self.flat.name}: has no input or no output") from None

    @property
    def native(self) -> Any:
        """The runtime's own interpreter."""
        return self._interpreter

    def another(self) -> Interpreter:
        """One for another stream: this one, unless what it computes depends on what it has heard."""
        if not self.flat.stateful:
            return self
        other = copy.copy(self)
        other._load()
        return other

    def reset(self) -> None:
        """Forget what was heard, as far as the model keeps it.

        ``reset_all_variables`` of the runtimes leaves the variables of ``VAR_HANDLE`` as they are, so that only a new
        interpreter begins anew.
        """
        if self.flat.stateful:
            self._load()

    def invoke(self, values: NDArray[Any]) -> NDArray[Any]:
        """Run the model once.

        Parameters
        ----------
        values : numpy.ndarray
            Of the input tensor's shape and dtype.

        Returns
        -------
        numpy.ndarray
            A copy of the output tensor.

        Raises
        ------
        ModelError
            If the runtime fails in it.
        """
        self._interpreter.set_tensor(self._input, values)
        try:
            self._interpreter.invoke()
        except RuntimeError as error:
            raise ModelError(f"{self.flat.name}: {self.runtime} fails in this model: {error}") from None
        output: NDArray[Any] = self._interpreter.get_tensor(self._output)
        return output
