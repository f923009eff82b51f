"""A small made-up dataset whose words are tones: clips in Speech Commands' layout, speech, features, a test set."""

import csv
import hashlib

import numpy as np
import soundfile

from host_tools.config import DataConfig
from host_tools.data.splits import official_split
from kws_edge import Frontend, preset

RATE = 16000
WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "bed", "cat", "tree")


def word(index, rng):
    """A made-up word: a chirp at some time in a second of faint noise. Its start and direction tell the word."""
    length = int(rng.integers(6000, 9000))
    start = 250 * 1.22**index
    hz = start * np.linspace(1, 1.5 if index % 2 else 0.6, length) * rng.uniform(0.97, 1.03)
    chirp = np.sin(2 * np.pi * np.cumsum(hz) / RATE) * np.hanning(length) * rng.uniform(2000, 12000)
    samples = rng.normal(0, 30, RATE)
    at = int(rng.integers(0, RATE - length))
    samples[at : at + length] += chirp
    return samples.astype(np.int16)


def write_dataset(root):
    """Write ``clips`` (13 words by 26 speakers, background noise), ``speech``, ``features`` and ``test``."""
    rng = np.random.default_rng(0)
    speakers = [hashlib.md5(bytes([i])).hexdigest()[:8] for i in range(200)]
    held_out = [s for s in speakers if official_split(s) == "validation"][:6]
    training = [s for s in speakers if official_split(s) == "training"][:20]
    for index, name in enumerate(WORDS):
        (root / "clips" / name).mkdir(parents=True)
        for speaker in held_out + training:
            soundfile.write(root / "clips" / name / f"{speaker}_nohash_0.wav", word(index, rng), RATE)
    (root / "clips" / "_background_noise_").mkdir()
    noise = rng.normal(0, 600, 4 * RATE).astype(np.int16)
    soundfile.write(root / "clips" / "_background_noise_" / "noise.wav", noise, RATE)
    (root / "speech").mkdir()
    for speaker in range(8):
        babble = np.concatenate([word(int(i), rng) for i in rng.integers(13, 16, 3)])
        soundfile.write(root / "speech" / f"{speaker}-1-0001.wav", babble, RATE)
    frontend = Frontend(preset("logmel40"))
    (root / "features").mkdir()
    rows, levels = [("word", "file", "speaker", "split")], []
    for index, name in enumerate(WORDS):
        for i in range(6):
            rows.append((name, f"f{i}_nohash_0.jpg", f"f{i}", "training" if i < 5 else "validation"))
            levels.append(np.rint(frontend(word(index, rng))).astype(np.uint8))
    np.save(root / "features" / "features.npy", np.array(levels))
    with open(root / "features" / "manifest.tsv", "w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows(rows)
    (root / "test").mkdir()
    for index, name in enumerate(WORDS):
        label = name if index < 10 else "_unknown_"
        (root / "test" / label).mkdir(exist_ok=True)
        for i in range(8):
            soundfile.write(root / "test" / label / f"{name}{i}.wav", word(index, rng), RATE)


def data_of(root, **changes):
    """Clips, features and speech of the dataset, for the configuration of a training."""
    return DataConfig(**{"clips": root / "clips", "features": root / "features", "speech": root / "speech", **changes})
