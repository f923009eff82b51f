#!/usr/bin/env python3
"""Make the stream that ``kws-edge demo`` plays: commands and other words in several synthetic voices, over noise.

    python demo/make_stream.py          (needs espeak-ng, flite, numpy, soundfile, soxr)

writes kws_edge/demo/stream.flac (16 kHz, mono) and stream.csv with what is said when; the same tools give the same
stream.
"""

from __future__ import annotations

import csv
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

RATE = 16000
DURATION_S = 31.0
SEED = 7
SPEECH_RMS = 0.06
SNR_DB = 20.0
OUT = Path(__file__).resolve().parent.parent / "kws_edge" / "demo"

# What is said, by whom. Words that are no command must stay without a detection.
SCRIPT = (
    ("flite:slt", "yes"),
    ("flite:rms", "left"),
    ("espeak:en-us+Andy", "hello"),
    ("flite:awb", "stop"),
    ("espeak:en-us+Annie", "right"),
    ("espeak:en-gb-scotland+m3", "up"),
    ("flite:rms", "marvin"),
    ("espeak:en-us+f4", "go"),
    ("flite:slt", "down"),
    ("flite:rms", "no"),
    ("flite:slt", "happy birthday"),
    ("flite:rms", "off"),
    ("espeak:en-gb+f2", "on"),
    ("flite:kal16", "yes"),
    ("espeak:en-us+m7", "stop"),
    ("flite:slt", "seven"),
    ("espeak:en-gb+f2", "up"),
)


def say(voice: str, text: str) -> np.ndarray:
    """`text` spoken by `voice`, trimmed of silence, at RATE and SPEECH_RMS."""
    engine, name = voice.split(":")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "word.wav")
        command = {
            "flite": ["flite", "-voice", name, "-t", text, "-o", path],
            "espeak": ["espeak-ng", "-v", name, "-s", "140", "-w", path, text],
        }[engine]
        subprocess.run(command, check=True, capture_output=True)
        samples, rate = soundfile.read(path, dtype="float32")
    samples = soxr.resample(samples, rate, RATE)
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max())
    samples = samples[loud[0] : loud[-1] + 1]
    return samples * SPEECH_RMS / np.sqrt(np.mean(samples**2))


def noise(n: int, rng: np.random.Generator) -> np.ndarray:
    """Pink noise that swells and fades, as a room's does."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[: round(40 * n / RATE)] = 0
    pink = np.fft.irfft(spectrum, n)
    swell = 1 + 0.5 * np.sin(2 * np.pi * np.arange(n) / RATE / 9.0)
    return (pink / pink.std() * swell).astype(np.float32)


def main() -> None:
    rng = np.random.default_rng(SEED)
    words = [say(voice, text) for voice, text in SCRIPT]
    stream = noise(round(DURATION_S * RATE), rng) * SPEECH_RMS * 10 ** (-SNR_DB / 20)
    spare = len(stream) - sum(map(len, words)) - 2 * RATE // 2
    gaps = rng.uniform(0.8, 1.2, len(words))
    at, rows = RATE // 2, []
    for (voice, text), samples, gap in zip(SCRIPT, words, gaps / gaps.sum() * spare, strict=True):
        stream[at : at + len(samples)] += samples
        rows.append((f"{at / RATE:.2f}", f"{(at + len(samples)) / RATE:.2f}", text, voice))
        at += len(samples) + int(gap)
    OUT.mkdir(parents=True, exist_ok=True)
    soundfile.write(OUT / "stream.flac", stream, RATE, subtype="PCM_16")
    with open(OUT / "stream.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("start_s", "end_s", "said", "voice"), *rows])
    print(f"{len(stream) / RATE:.1f} s, {len(rows)} utterances, peak {np.abs(stream).max():.2f}")


if __name__ == "__main__":
    main()
