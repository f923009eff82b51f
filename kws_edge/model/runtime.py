"""One face for the TFLite runtimes that a platform may have."""

from __future__ import annotations

import copy
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from kws_edge.errors import ModelError, RuntimeUnavailableError
from kws_edge.model.tflite import FlatModel, verify
from kws_edge.native_output import quiet_native
from kws_edge.ranges import whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["KERNELS", "RUNTIMES", "THREADS", "Interpreter", "installed", "load_native"]

RUNTIMES: dict[str, tuple[str, tuple[str, ...]]] = {
    "litert": ("ai_edge_litert.interpreter", ("ai-edge-litert",)),
    "tflite-runtime": ("tflite_runtime.interpreter", ("tflite-runtime",)),
    "tensorflow": ("tensorflow.lite.python.interpreter", ("tensorflow", "tensorflow-cpu")),
}
"""Module and distributions of each runtime, in order of preference."""

KERNELS = {"fast": "AUTO", "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "reference": "BUILTIN_REF"}
"""The runtimes' names of the kernel sets."""

THREADS = whole(1, 64)
"""How many threads a runtime may have."""


def installed() -> dict[str, str]:
    """Versions of the runtimes that are installed, by name, the preferred one first.

    They are read off the names of the packages' folders: importlib.metadata would bring the parser of e-mails with it.
    """
    versions: dict[str, str] = {}
    for folder in filter(os.path.isdir, sys.path):
        for entry in os.listdir(folder):
            package, _, version = entry.removesuffix(".dist-info").partition("-")
            if entry.endswith(".dist-info"):
                versions.setdefault(package.lower().replace("_", "-"), version)
    found = {
        name: [versions[distribution] for distribution in distributions if distribution in versions]
        for name, (_, distributions) in RUNTIMES.items()
    }
    return {name: versions[0] for name, versions in found.items() if versions}


def _unusable(name: str) -> str | None:
    """Why an installed runtime cannot be used, if it is known to be so."""
    if name == "tflite-runtime" and int(np.__version__.split(".")[0]) >= 2:
        return (
            f"tflite-runtime cannot work with NumPy {np.__version__}: pip install 'numpy<2', "
            "or pip install ai-edge-litert"
        )
    return None


def load_runtime(wanted: str) -> tuple[str, str, Any]:
    """Name, version and module of a runtime, or of the first that loads for ``auto``."""
    found = installed()
    if wanted != "auto" and wanted not in RUNTIMES:
        raise RuntimeUnavailableError(f"unknown runtime {wanted!r}; known are auto, {', '.join(RUNTIMES)}")
    if wanted != "auto" and wanted not in found:
        package = RUNTIMES[wanted][1][0]
        raise RuntimeUnavailableError(f"the runtime {wanted} is not installed: pip install {package}")
    problems = []
    for name in [wanted] if wanted != "auto" else found:
        problem = _unusable(name)
        if problem is None:
            try:
                return name, found[name], importlib.import_module(RUNTIMES[name][0])
            except (ImportError, OSError, AttributeError) as error:
                problem = f"{name} {found[name]} cannot be loaded ({error})"
        problems.append(problem)
    if problems:
        raise RuntimeUnavailableError("; ".join(problems))
    raise RuntimeUnavailableError(
        "no TFLite runtime is installed: pip install ai-edge-litert (32-bit Arm: tflite-runtime, up to Python 3.11)"
    )


def load_native(flatbuffer: bytes, *, runtime: str, threads: int, kernels: str) -> tuple[Any, str, str]:
    """A runtime's own interpreter of a model, which is taken at its word, with the name and version of the runtime.

    Raises
    ------
    RuntimeUnavailableError
        If no runtime can be loaded.
    ModelError
        If the runtime refuses the model.
    """
    name, version, module = load_runtime(runtime)
    if kernels not in KERNELS:
        raise RuntimeUnavailableError(f"unknown kernels {kernels!r}; known are {', '.join(KERNELS)}")
    kind = getattr(module.OpResolverType, KERNELS[kernels])
    try:
        with quiet_native():
            native = module.Interpreter(
                model_content=flatbuffer, num_threads=threads, experimental_op_resolver_type=kind
            )
            native.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{name} {version} cannot run this model: {' '.join(str(error).split())}") from None
    return native, name, version


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
            from kws_edge.model.trial import try_out

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
