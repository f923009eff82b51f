"""The TFLite runtimes of various platforms, and their own interpreters."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from kws_edge.errors import ModelError, RuntimeUnavailableError
from kws_edge.native_output import quiet_native
from kws_edge.ranges import whole

if TYPE_CHECKING:
    pass

__all__ = ["KERNELS", "RUNTIMES", "THREADS", "installed", "load_native"]

RUNTIMES: dict[str, tuple[str, tuple[str, ...]]] = {
    "litert": ("ai_edge_litert.interpreter", ("ai-edge-litert",)),
    "tflite-runtime": ("tflite_runtime.interpreter", ("tflite-runtime",)),
    "tensorflow": ("tensorflow.lite.python.interpreter", ("tensorflow", "tensorflow-cpu")),
}
"""Module and distributions of each runtime, in order of preference."""

KERNELS = {"fast": "AUTO", "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "reference": "BUILTIN_REF"}
"""The runtimes' names for the kernel sets."""

THREADS = whole(1, 64)
"""Allowed numbers of threads."""


def installed() -> dict[str, str]:
    """Versions of the installed runtimes, by name, the preferred one first.

    They are read from the names of the packages' folders, because importlib.metadata loads a parser of e-mails.
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
    """The reason why an installed runtime cannot be used, if one is known."""
    if name == "tflite-runtime" and int(np.__version__.split(".")[0]) >= 2:
        return (
            f"tflite-runtime cannot work with NumPy {np.__version__}: pip install 'numpy<2', "
            "or pip install ai-edge-litert"
        )
    return None


def load_runtime(wanted: str) -> tuple[str, str, Any]:
    """Load a runtime, or with ``auto`` the first that loads; return its name, version and module."""
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
    """Make a runtime's own interpreter of a model, without verifying the model.

    Returns
    -------
    interpreter : Any
    name, version : str
        Name and version of the runtime.

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
