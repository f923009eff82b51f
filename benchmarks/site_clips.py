"""Measures what clips of a site give: `kws-host train --site` on a microphone that the model does not know.

    python -m benchmarks.site_clips DATA -o site_clips --minutes 8

DATA holds `speech_commands`, `logmel`, `negatives` and `test12`. The site is a muffled microphone in an echoing room
with a hum. Recordings of the validation list pass through it: those of one half of the speakers train, as clips that
`kws-edge serve` kept, and those of the other half are the test. Every command is printed before it runs.
"""

from __future__ import annotations

import argparse
import zlib
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import butter, fftconvolve, sosfilt

from benchmarks.own_words import host
from host_tools.data.dataset import Clip, index_clips
from host_tools.data.label_sets import LABEL_SETS
from kws_edge.labels import SILENCE, UNKNOWN

_RATE = 16_000
_WORDS = [word for word in LABEL_SETS["commands12"] if word not in (SILENCE, UNKNOWN)]
_BAND_HZ = (250, 2000)
_DECAY = 900  # samples in which an echo falls to 1/e
_DIRECT = 8  # the direct sound, of an echo of 1
_OPTIONS = ["--learning-rate", "0.0005", "--silence-share", "0.13", "--unknown-share", "0.34", "--speech-share", "0.5"]
_OPTIONS += ["--gated", "0.3", "--reverberation", "0.3"]


class Site:
    """A microphone in a place."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._band = butter(4, _BAND_HZ, btype="band", fs=_RATE, output="sos")
        self._room = rng.standard_normal(_RATE // 2) * np.exp(-np.arange(_RATE // 2) / _DECAY)
        self._room[0] = _DIRECT
        self._room /= np.sqrt(np.sum(self._room**2))

    def heard(self, samples: np.ndarray) -> np.ndarray:
        """A clip of 1.5 s, as the service keeps it, with a recording in its middle."""
        padded = np.pad(samples.astype(float), (_RATE // 4, 3 * _RATE // 2))[: 3 * _RATE // 2]
        speech = sosfilt(self._band, fftconvolve(padded, self._room)[: len(padded)])
        seconds = np.arange(len(padded)) / _RATE
        hum = sum(np.sin(2 * np.pi * f * seconds) / k for k, f in enumerate((100, 200, 300, 700), 1))
        noise = sosfilt(self._band, self._rng.standard_normal(len(padded)))
        mixed = 0.125 * speech / (np.abs(speech).max() + 1e-9) + 0.003 * hum + 0.005 * noise
        return np.rint(32767 * mixed).astype(np.int16)


def written(clips: list[Clip], folder: Path, most: int, *, trains: bool) -> None:
    """Write at most `most` clips of each word, by one half of the speakers."""
    rng = np.random.default_rng(0)
    site = Site(rng)
    for word in (*_WORDS, f"_{UNKNOWN}_"):
        wanted = [
            clip
            for clip in clips
            if (clip.word == word if word in _WORDS else clip.word not in _WORDS)
            and (zlib.crc32(clip.speaker.encode()) % 2 == 0) == trains
        ]
        (folder / word).mkdir(parents=True, exist_ok=True)
        for i in rng.permutation(len(wanted))[:most]:
            samples, _ = soundfile.read(wanted[i].path, dtype="float32")
            soundfile.write(folder / word / f"{i}.wav", site.heard(samples), _RATE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--clips", type=int, default=40, metavar="N", help="clips of each word that train")
    parser.add_argument("--minutes", type=float, default=15.0, metavar="N", help="minutes of training; 0: none")
    args = parser.parse_args()
    data, out = args.data, args.output
    clips = [clip for clip in index_clips(data / "speech_commands").clips if clip.split == "validation"]
    written(clips, out / "clips", args.clips, trains=True)
    written(clips, out / "test", 80, trains=False)
    models = ["commands12"]
    if args.minutes:
        negatives = ("--speech", data / "negatives/speech", "--noise", data / "negatives/noise")
        train = ("train", data / "speech_commands", "--features", data / "logmel", *negatives, "--start", "commands12")
        host(*train, "--site", out / "clips", "--minutes", args.minutes, *_OPTIONS, "-o", out / "run")
        host("quantize", out / "run", "-o", out / "site.tflite")
        models.append(str(out / "site.tflite"))
    for model in models:
        for test in (out / "test", data / "test12"):
            host("evaluate", model, "--clips", test)


if __name__ == "__main__":
    main()
