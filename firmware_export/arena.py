"""The memory that TFLite Micro needs for a model, as its own interpreter allocates it."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kws_edge.errors import ModelError, RuntimeUnavailableError
from kws_edge.modelfile import unpack
from kws_edge.tflite import FlatModel

__all__ = ["Arena", "measure_arena"]

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


def measure_arena(model: str | Path) -> Arena:
    """Load a model in TFLite Micro's interpreter and read off its allocations.

    The figure is that of a 64-bit machine; with the pointers of a 32-bit one the persistent part is smaller.

    Raises
    ------
    ModelError
        If the file is no model, or TFLite Micro refuses it.
    RuntimeUnavailableError
        If tflite-micro is not installed.
    """
    try:
        from tflite_micro import runtime
    except ImportError as error:
        raise RuntimeUnavailableError(f"{error}; measuring the arena needs pip install --pre tflite-micro") from None
    try:
        flatbuffer, _ = unpack(Path(model).read_bytes(), str(model))
    except OSError as error:
        raise ModelError(f"{model}: {error.strerror}") from None
    flat = FlatModel(flatbuffer, str(model))
    with tempfile.TemporaryFile() as log:  # the interpreter prints from C++
        sys.stderr.flush()
        saved = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            runtime.Interpreter.from_bytes(flatbuffer, arena_size=_LARGEST).print_allocations()
            problem = None
        except (RuntimeError, ValueError) as error:
            problem = str(error)
        finally:
            os.dup2(saved, 2)
            os.close(saved)
        log.seek(0)
        text = log.read().decode(errors="replace")
    sizes = dict(re.findall(r"Arena allocation (total|head|tail) (\d+) bytes", text))
    if problem or len(sizes) != 3:
        raise ModelError(f"{model}: TFLite Micro cannot run it: {(problem or text).strip() or 'no reason given'}")
    return Arena(int(sizes["total"]), int(sizes["head"]), int(sizes["tail"]), len(flatbuffer), flat.macs)
