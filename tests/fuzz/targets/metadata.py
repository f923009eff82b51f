"""What a model file says of itself: JSON in an archive whose checksums are right."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

from kws_edge import shipped_models, unpack
from kws_edge.model.file import METADATA_NAME
from tests.fuzz.values import mutate

__all__ = ["consume", "mutate", "seeds"]

FLATBUFFER, _ = unpack(Path(shipped_models()["micro12"]).read_bytes(), "micro12")


def seeds():
    for path in shipped_models().values():
        with zipfile.ZipFile(path) as archive:
            values = json.loads(archive.read(METADATA_NAME))
        with zipfile.ZipFile(shipped_models()["micro12"]) as archive:
            values["tflite_sha256"] = json.loads(archive.read(METADATA_NAME))["tflite_sha256"]
        yield json.dumps({**values, "provenance": {}, "metrics": {}}).encode()


def consume(data):
    file = io.BytesIO(FLATBUFFER)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(METADATA_NAME, data)
    unpack(file.getvalue(), "fuzz")
