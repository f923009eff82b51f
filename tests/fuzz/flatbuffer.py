"""TFLite flatbuffers, by their bytes."""

from __future__ import annotations

from pathlib import Path

from kws_edge import shipped_models, unpack
from kws_edge.tflite import FlatModel


def seeds():
    """The shipped models without the values of their largest constants, which no parser looks at."""
    for name in ("micro12", "commands12"):
        flatbuffer, _ = unpack(Path(shipped_models()[name]).read_bytes(), name)
        yield flatbuffer


def consume(data):
    flat = FlatModel(data, "fuzz")
    assert flat.operators is not None
    assert flat.macs >= 0
    for name, inputs, outputs in flat.weighted:
        assert name and inputs is not None and outputs is not None
