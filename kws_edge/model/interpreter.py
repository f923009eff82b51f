"""One interface to the interpreters of all TFLite runtimes."""

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
    """A model in a runtime, with one input tensor and one output tensor.

    The runtimes trust a model file. So the model is verified first. If it has parts that this version does not know, it
    is tried in a process of its own before it runs in this one.

    Parameters
    ----------
    flat : FlatModel
    runtime : str
        A name in :data:`kws_edge.model.runtime.RUNTIMES`, or ``auto`` for the first one that loads.
    threads : int
    kernels : {"fast", "builtin", "reference"}
        ``fast`` is the runtime's preference (XNNPACK). Its results may differ between machines by a few steps of the
        output.

        ``builtin`` has no delegates, and gives the same bits in LiteRT and tflite-runtime. But LiteRT 2.1.6 on 64-bit
        Arm rounds otherwise, and differs by up to ten steps of the output. TFLite Micro rounds a negative half
        otherwise. It gives the same bits as ``builtin`` if every convolution ends in a ReLU.

        ``reference`` is plain code, gives the same bits everywhere, and is very slow. Its convolutions equal those of
        TFLite Micro; its SUM and RELU6 do not.

    Attributes
    ----------
    runtime, version : str
        Name and version of the loaded runtime.
    unproven : list of str
        Reasons for the trial; empty if the model was verified completely.

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
        self.how: dict[str, Any] = {"runtime": runtime, "threads": threads, "kernels": kernels}
        self.unproven = verify(flat)
        if self.unproven:
            from kws_edge.model.trial import try_out  # few models need it

            try_out(flat, self.unproven, **self.how)
        self._load()

    def _load(self) -> None:
        try:
            self._interpreter, self.runtime, self.version = load_native(self.flat.data, **self.how)
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
        """An interpreter for another stream. It is this one, unless the model keeps state between inferences."""
        if not self.flat.stateful:
            return self
        other = copy.copy(self)
        other._load()
        return other

    def reset(self) -> None:
        """Reset the state that the model keeps between inferences.

        ``reset_all_variables`` of the runtimes does not reset the variables of ``VAR_HANDLE``. So this makes a new
        interpreter.
        """
        if self.flat.stateful:
            self._load()

    def invoke(self, values: NDArray[Any]) -> NDArray[Any]:
        """Run the model once.

        Parameters
        ----------
        values : numpy.ndarray
            Values with the input tensor's shape and dtype.

        Returns
        -------
        numpy.ndarray
            A copy of the output tensor.

        Raises
        ------
        ModelError
            If the runtime fails.
        """
        self._interpreter.set_tensor(self._input, values)
        try:
            self._interpreter.invoke()
        except RuntimeError as error:
            raise ModelError(f"{self.flat.name}: {self.runtime} fails in this model: {error}") from None
        output: NDArray[Any] = self._interpreter.get_tensor(self._output)
        return output
