"""TFLite flatbuffers, by their bytes."""

from __future__ import annotations

from pathlib import Path

import tests
from kws_edge import shipped_models, unpack
from kws_edge.model.tflite import FlatModel, verify


def seeds():
    """The small models. Most bytes of large models are weights, which no parser reads."""
    for path in (*map(Path, shipped_models().values()), *Path(tests.__file__).parent.rglob("*.tflite")):
        flatbuffer, _ = unpack(path.read_bytes(), path.name)
        if len(flatbuffer) < 100_000:
            yield flatbuffer


def consume(data):
    flat = FlatModel(data, "fuzz")
    assert flat.operators is not None
    assert flat.macs >= 0
    for name, inputs, outputs in flat.weighted:
        assert name and inputs is not None and outputs is not None
    assert all(verify(flat))
