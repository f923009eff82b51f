"""Audio files of every format that can be written here, cut, changed and mixed up."""

from __future__ import annotations

import soundfile

from kws_edge import AudioFile
from kws_edge.diagnostics.benchmark import STREAM
from tests.fuzz import written

SECONDS = 5.0
FORMATS = (
    ("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "GSM610"), ("WAVEX", "PCM_24"), ("RF64", "PCM_16"), ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16"), ("AU", "ULAW"), ("CAF", "ALAC_16"),
)  # fmt: skip


def seeds():
    samples, _ = soundfile.read(STREAM, frames=2400, dtype="int16")
    for form, subtype in FORMATS:
        if subtype in soundfile.available_subtypes(form):
            path = written("seed", b"")
            soundfile.write(path, samples, 16000, format=form, subtype=subtype)
            yield path.read_bytes()


def consume(data):
    with AudioFile(written("audio", data), sample_rate=16000) as file:
        for block in file:
            assert block.ndim == 1 and block.dtype == "int16"
