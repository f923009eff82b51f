"""What ``kws-host collect`` takes from packages: sounds in containers."""

from __future__ import annotations

import io

import soundfile

from host_tools.collect import _carved
from kws_edge.bench import STREAM


def seeds():
    samples, _ = soundfile.read(STREAM, frames=2400, dtype="int16")
    sounds = []
    for form, subtype in (("WAV", "PCM_16"), ("OGG", "VORBIS")):
        out = io.BytesIO()
        soundfile.write(out, samples, 16000, format=form, subtype=subtype)
        sounds.append(out.getvalue())
    yield b"container" + b"...".join(sounds)


def consume(data):
    for suffix, sound in _carved(data):
        assert suffix in (".wav", ".ogg")
        assert len(sound) <= len(data)
