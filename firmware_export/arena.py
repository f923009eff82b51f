"""TFLite Micro's own interpreter: the memory that it needs for a model, and what it computes."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_export.kernels import arenas
from kws_edge.errors import ConfigError, ModelError, RuntimeUnavailableError
from kws_edge.model.model import read_model
from kws_edge.model.tflite import FlatModel, verify
from kws_edge.native_output import quiet_native

__all__ = ["ARENA_MARGIN", "Arena", "ArenaPlan", "MicroInterpreter", "by_kernels", "measure_arena"]

ARENA_MARGIN = 0.1
"""Part of the measured arena that is added to it, before rounding up to whole KiB."""

_LARGEST = 64 * 2**20  # bytes


@dataclass(frozen=True)
class Arena:
    """What TFLite Micro's recording interpreter reports, in bytes."""

    total: int
    tensors: int
    """The head: inputs, outputs and intermediate results, overlaid where their lives do not overlap."""
    persistent: int
    """The tail: structures and per-channel quantisation, which stay."""
    flatbuffer: int
    """The model itself, which lies in flash."""
    macs: int
    """Multiply-accumulates of one inference."""
    kernels: dict[str, int]
    """What the model takes with each of :data:`firmware_export.kernels.KERNELS`, by formula."""


@dataclass(frozen=True)
class ArenaPlan:
    """The arena that a firmware reserves."""

    size: int
    """Bytes."""
    kernels: str
    """Those that TFLite Micro is built with, or would take the largest arena with."""
    measured: Arena

    @classmethod
    def of(cls, measured: Arena, name: str, *, size: int | None = None, kernels: str | None = None) -> ArenaPlan:
        """The plan for `kernels`, by default those that take the largest arena.

        Parameters
        ----------
        measured : Arena
        name : str
            What errors call the model.
        size : int, optional
            Bytes; by default what TFLite Micro takes with `kernels` and :data:`ARENA_MARGIN`.
        kernels : str, optional

        Raises
        ------
        ConfigError
            If `size` is less than TFLite Micro takes.
        """
        needs = measured.kernels
        chosen = kernels or max(needs, key=needs.__getitem__)
        if size is None:
            size = -(-round(needs[chosen] * (1 + ARENA_MARGIN)) // 1024) * 1024
        if size < needs[chosen]:
            others = "" if kernels else f"; --kernels names those of your board: {by_kernels(needs)}"
            raise ConfigError(
                f"{name}: an arena of {size:,} bytes is too small; TFLite Micro takes {needs[chosen]:,} for this model"
                f" with the kernels {chosen}{others}"
            )
        return cls(size, chosen, measured)

    def to_dict(self) -> dict[str, Any]:
        """What the manifest and the report hold."""
        return {
            "size": self.size,
            "kernels": self.kernels,
            "by_kernels": self.measured.kernels,
            "measured": self.measured.total,
            "tensors": self.measured.tensors,
            "persistent": self.measured.persistent,
        }


def by_kernels(needs: Mapping[str, int]) -> str:
    """Bytes that a model takes with each kind of kernels, in words."""
    return ", ".join(f"{kernels} {need:,}" for kernels, need in needs.items())


class MicroInterpreter:
    """A model in TFLite Micro's interpreter on this machine, with every operator that TFLite Micro has.

    Parameters
    ----------
    flat : FlatModel
    name : str
        What errors call the model.
    arena_size : int, optional
        Bytes to give it; as many as it may want by default.

    Raises
    ------
    ModelError
        If TFLite Micro refuses the model, or the arena is too small for it.
    RuntimeUnavailableError
        If tflite-micro is not installed.
    """

    def __init__(self, flat: FlatModel, name: str, *, arena_size: int = _LARGEST) -> None:
        self.flat, self.name = flat, name
        self._interpreter, _ = self._logged(
            lambda runtime: runtime.Interpreter.from_bytes(flat.data, arena_size=arena_size)
        )

    def _logged(self, work: Callable[[Any], Any]) -> tuple[Any, str]:
        """What `work` returns, and what TFLite Micro prints (from C++) in it, which is the reason where it fails."""
        try:
            from tflite_micro import runtime
        except ImportError as error:
            raise RuntimeUnavailableError(
                f"{error}; TFLite Micro's interpreter comes with pip install --pre tflite-micro, for x86-64 Linux alone"
            ) from None
        with tempfile.TemporaryFile() as log:
            problem = result = None
            with quiet_native(log):
                try:
                    result = work(runtime)
                except (RuntimeError, ValueError) as error:
                    problem = str(error)
            log.seek(0)
            text = log.read().decode(errors="replace")
        if problem is not None:
            said = " ".join(text.split()) or problem
            raise ModelError(f"{self.name}: TFLite Micro cannot run it: {said}")
        return result, text

    def arena(self) -> Arena:
        """The memory that the model takes.

        The figure is that of a 64-bit machine; with the pointers of a 32-bit one the persistent part is smaller.
        """
        _, text = self._logged(lambda _: self._interpreter.print_allocations())
        sizes = {name: int(size) for name, size in re.findall(r"Arena allocation (total|head|tail) (\d+) bytes", text)}
        if len(sizes) != 3:
            raise ModelError(f"{self.name}: TFLite Micro does not tell its allocations: {text.strip() or 'nothing'}")
        head, tail = sizes["head"], sizes["tail"]
        kernels = arenas(self.flat, head, tail)
        return Arena(sizes["total"], head, tail, len(self.flat.data), self.flat.macs, kernels)

    def another(self) -> MicroInterpreter:
        """One for another stream: this one, because there is one at a time."""
        return self

    def reset(self) -> None:
        """Forget what earlier inputs have left in the model's variables."""
        self._logged(lambda _: self._interpreter.reset())

    def invoke(self, values: NDArray[np.int8]) -> NDArray[np.int8]:
        """Run the model once on one input tensor; return its output, as it is quantised."""
        self._interpreter.set_input(values, 0)
        self._logged(lambda _: self._interpreter.invoke())
        return self._interpreter.get_output(0)


def measure_arena(model: str | Path) -> Arena:
    """Load a model, one of the shipped or a file, in TFLite Micro's interpreter and read off its allocations.

    Raises
    ------
    ModelError
        If the file is no model, or TFLite Micro refuses it.
    RuntimeUnavailableError
        If tflite-micro is not installed.
    """
    path, flat, _ = read_model(model)
    verify(flat)
    return MicroInterpreter(flat, path).arena()
