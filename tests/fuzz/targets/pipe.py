"""Audio on a pipe, raw or with a header."""

from __future__ import annotations

import io
import wave

from kws_edge import AudioFile, PcmStream
from kws_edge.diagnostics.benchmark import STREAM


def seeds():
    with AudioFile(STREAM, sample_rate=16000) as file:
        samples = file.read_all()[:2000]
    yield samples.tobytes()
    for channels, rate in ((1, 16000), (2, 44100)):
        out = io.BytesIO()
        with wave.open(out, "wb") as file:
            file.setnchannels(channels)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(samples.tobytes())
        yield out.getvalue()
    header = out.getvalue()
    yield header[:4] + b"\xff" * 4 + header[8:40] + b"\xff" * 4 + header[44:]
    yield b"RIFX" + header[4:]


def consume(data):
    for block in PcmStream(io.BytesIO(data), sample_rate=16000):
        assert block.ndim == 1 and block.dtype == "int16"
