"""TensorFlow's converter to TFLite, kept quiet."""

from __future__ import annotations

import contextlib
import io
import warnings

from host_tools.errors import TrainingError
from kws_edge.model.tflite import FlatModel
from kws_edge.native_output import quiet_native

__all__ = ["check_integer", "convert"]


def convert(converter) -> bytes:
    """Run a TFLite converter quietly; what it raises becomes a TrainingError."""
    with quiet_native(), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Statistics for quantized inputs", UserWarning)
        try:
            return converter.convert()
        except Exception as error:  # TensorFlow raises many kinds for a user's own network
            raise TrainingError(f"TensorFlow cannot convert this network to TFLite: {str(error)[:500]}") from None


def check_integer(flat: FlatModel) -> None:
    """Raise a TrainingError if a tensor stayed in floating point."""
    floating = [tensor.name for tensor in flat.tensors if tensor.dtype.startswith("float")]
    if floating:
        raise TrainingError(f"{flat.name}: {floating[0]} stayed in floating point; the model cannot run as INT8")
