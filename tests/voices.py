"""Words that a synthesiser says, as one person varies them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

from kws_edge import AudioFile
from tests.conftest import need_program

RATE = 16000
QUIET = np.random.default_rng(0).normal(0, 6, RATE).astype(np.int16)
"""A second of a quiet room."""
_WAYS = ((140, 45), (150, 50), (160, 55), (170, 48), (155, 60), (145, 52))
"""Words a minute, and pitch."""


def spoken(folder, text, voice="en-us", speed=150, pitch=50):
    """A word as espeak-ng says it, at 16 kHz, with a room's quiet around it."""
    options = ["-v", voice, "-s", str(speed), "-p", str(pitch)]
    return _spoken(folder, ["espeak-ng", *options, "-w", str(folder / "spoken.wav"), text])


def spoken_by_another(folder, text, speed=1.0):
    """The same by a woman's voice of flite, which is far from those of espeak-ng."""
    options = ["-voice", "slt", "--setf", f"duration_stretch={1 / speed:.2f}"]
    return _spoken(folder, ["flite", *options, "-t", text, "-o", str(folder / "spoken.wav")])


def _spoken(folder, command):
    need_program(command[0])
    path = folder / "spoken.wav"
    subprocess.run(command, check=True, timeout=60)
    with AudioFile(path, sample_rate=RATE) as file:
        word = (file.read_all() * 0.37).astype(np.int16)
    out = np.concatenate([QUIET, np.zeros(len(word), np.int16), QUIET])
    out[RATE : RATE + len(word)] += word
    return out


def record(folder: Path) -> dict[str, list[np.ndarray]]:
    """Six recordings of each of some words."""
    return {
        word: [spoken(folder, word, speed=speed, pitch=pitch) for speed, pitch in _WAYS]
        for word in ("lamp", "kitchen", "banana")
    }
