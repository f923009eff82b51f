"""Run a model in TFLite Micro's own interpreter, and measure the memory that it needs."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
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
"""Share of the measured arena that is added as a margin, before rounding up to whole KiB."""

_LARGEST = 64 * 2**20  # bytes


@dataclass(frozen=True)
class Arena:
    """Sizes in bytes that TFLite Micro's recording interpreter reports."""

    total: int
    tensors: int
    """The head: inputs, outputs and intermediate results. Those that are not needed at the same time share memory."""
    persistent: int
    """The tail: structures and per-channel quantisation, which stay in memory."""
    flatbuffer: int
    """The model itself, which is in flash."""
    macs: int
    """Multiply-accumulates of one inference."""
    kernels: dict[str, int]
    """Arena of the model with each of :data:`firmware_export.kernels.KERNELS`, by formula."""


@dataclass(frozen=True)
class ArenaPlan:
    """The arena that a firmware reserves."""

    size: int
    """Bytes."""
    kernels: str
    """Kernels that TFLite Micro is built with, or those with the largest arena."""
    measured: Arena

    @classmethod
    def of(cls, measured: Arena, name: str, *, size: int | None = None, kernels: str | None = None) -> ArenaPlan:
        """Plan the arena for `kernels`, by default those with the largest arena.

        Parameters
        ----------
        measured : Arena
        name : str
            Name of the model in error messages.
        size : int, optional
            Size in bytes; by default the arena of the model with `kernels`, plus :data:`ARENA_MARGIN`.
        kernels : str, optional

        Raises
        ------
        ConfigError
            If `size` is smaller than the arena that TFLite Micro needs.
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
        """The values for the manifest and the report."""
        return {
            "size": self.size,
            "kernels": self.kernels,
            "by_kernels": self.measured.kernels,
            "measured": self.measured.total,
            "tensors": self.measured.tensors,
            "persistent": self.measured.persistent,
        }


def by_kernels(needs: Mapping[str, int]) -> str:
    """The arena sizes of a model with each kind of kernels, in words."""
    return ", ".join(f"{kernels} {need:,}" for kernels, need in needs.items())


class MicroInterpreter:
    """A model in TFLite Micro's interpreter on this machine, with every operator of TFLite Micro.

    Parameters
    ----------
    flat : FlatModel
    name : str
        Name of the model in error messages.
    arena_size : int, optional
        Size of the arena in bytes; by default more than any model needs.

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
        self.output: NDArray[np.int8] | None = None
        """The output of the latest inference, with the output tensor's shape."""
        self.second: NDArray[np.int8] | None = None
        """The second output of the latest inference of a model that hears clips, if it has one."""
        self._past = self._begin()

    def _begin(self) -> list[NDArray[np.int8]]:
        """The states of a stream that begins; none, if the model hears clips."""
        return [np.full(state.shape, state.zero_point, np.int8) for state in self.flat.inputs[1:]]

    def _logged(self, work: Callable[[Any], Any]) -> tuple[Any, str]:
        """Run `work`; return its result, and the output of TFLite Micro (from C++) with the reason of a failure."""
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
        """The memory that the model needs.

        The sizes are those of a 64-bit machine. On a 32-bit board, pointers and so the persistent part are smaller.
        """
        _, text = self._logged(lambda _: self._interpreter.print_allocations())
        sizes = {name: int(size) for name, size in re.findall(r"Arena allocation (total|head|tail) (\d+) bytes", text)}
        if len(sizes) != 3:
            raise ModelError(f"{self.name}: TFLite Micro does not tell its allocations: {text.strip() or 'nothing'}")
        head, tail = sizes["head"], sizes["tail"]
        kernels = arenas(self.flat, head, tail)
        return Arena(sizes["total"], head, tail, len(self.flat.data), self.flat.macs, kernels)

    def another(self, hop_frames: int | None = None) -> MicroInterpreter:
        """Return this interpreter for another stream, because there is only one stream at a time."""
        assert hop_frames in (None, self.flat.inputs[0].shape[1])  # TFLite Micro takes shapes as they are
        return self

    def reset(self) -> None:
        """Reset the model's variables, and the states of a network with state."""
        self._logged(lambda _: self._interpreter.reset())
        self._past = self._begin()

    def invoke(self, values: NDArray[np.int8]) -> NDArray[np.int8]:
        """Run the model once on an input tensor; return its quantised output."""
        output, *others = self.run([values, *self._past])
        if self._past:
            self._past = others
        elif others:
            (self.second,) = others
        self.output = output
        return output

    def run(self, inputs: Sequence[NDArray[np.int8]]) -> list[NDArray[np.int8]]:
        """Run the model once on all of its input tensors; return all of its output tensors."""
        for number, values in enumerate(inputs):
            self._interpreter.set_input(values, number)
        self._logged(lambda _: self._interpreter.invoke())
        return [self._interpreter.get_output(number).copy() for number in range(len(self.flat.outputs))]


def measure_arena(model: str | Path) -> Arena:
    """Load a shipped model or a file in TFLite Micro's interpreter, and read the sizes of its allocations.

    Raises
    ------
    ModelError
        If the file is not a model, or TFLite Micro refuses it.
    RuntimeUnavailableError
        If tflite-micro is not installed.
    """
    path, flat, _ = read_model(model)
    verify(flat)
    return MicroInterpreter(flat, path).arena()
