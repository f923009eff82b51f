"""Compares the front end `microfrontend` with pymicro-features in every value, and measures what both cost.

    python benchmarks/microfrontend.py DATA [--minutes 60]

DATA is a folder of recordings, at any depth. They are heard one after another as one stream, up to the number of
--minutes. Between them lie noise, silence, clipped speech and samples at the two ends of int16. Each form of the front
end is compared: whole minutes, and a stream in blocks of 100 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from pymicro_features import MicroFrontend

from kws_edge import AudioFile, Frontend, KwsError, StreamingFrontend, preset

CONFIG = preset("microfrontend")
RATE, HOP, BLOCK = CONFIG.sample_rate, CONFIG.hop_length, 1600
ENDINGS = (".wav", ".flac", ".ogg", ".mp3")


def between(speech: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """What lies between two recordings: a second each."""
    part = speech[:RATE].astype(np.float64)
    loudness = np.exp(rng.uniform(0, 11, RATE // 1000))
    return [
        np.zeros(RATE),
        rng.normal(0, 1, RATE) * np.repeat(loudness, 1000),
        part * rng.uniform(10, 300),
        rng.choice([-32768, 32767], RATE),
    ]


def minutes_of(folder: Path, most: int) -> Iterator[np.ndarray]:
    """The stream, in minutes of int16 samples."""
    rng, kept, done = np.random.default_rng(29), np.empty(0, np.int16), 0
    for path in sorted(one for one in folder.rglob("*") if one.suffix.lower() in ENDINGS):
        try:
            with AudioFile(path, sample_rate=RATE) as audio:
                speech = audio.read_all()
        except KwsError:
            continue
        extra = np.clip(np.rint(np.concatenate(between(speech, rng))), -32768, 32767).astype(np.int16)
        kept = np.concatenate([kept, speech, extra])
        while len(kept) >= 60 * RATE:
            yield kept[: 60 * RATE]
            kept, done = kept[60 * RATE :], done + 1
            if done == most:
                return


class Peer:
    """pymicro-features on a stream."""

    def __init__(self) -> None:
        self._frontend = MicroFrontend()

    def process(self, samples: np.ndarray) -> np.ndarray:
        audio = samples.tobytes()
        rows = [
            self._frontend.process_samples(audio[at : at + 2 * HOP]).features for at in range(0, len(audio), 2 * HOP)
        ]
        return np.array([row for row in rows if row], np.float32)


def timed(work, *arguments) -> tuple[np.ndarray, float]:
    started = time.process_time()
    result = work(*arguments)
    return result, time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    whole, stream, peer = Frontend(CONFIG), StreamingFrontend(CONFIG), Peer()
    seconds, cost = 0, dict.fromkeys(("pymicro-features", "whole minutes", "stream"), 0.0)
    values, differ, beyond = 0, dict.fromkeys(("whole minutes", "stream"), 0), 0
    for minute in minutes_of(args.data, args.minutes):
        theirs, took = timed(peer.process, minute)
        cost["pymicro-features"] += took
        found, took = timed(
            lambda x: np.concatenate([stream.process(x[at : at + BLOCK]) for at in range(0, len(x), BLOCK)]), minute
        )
        cost["stream"] += took
        beyond += int((theirs > CONFIG.level_max).sum())
        differ["stream"] += int((found != np.minimum(theirs, CONFIG.level_max)).sum())
        alone = np.minimum(Peer().process(minute), CONFIG.level_max)
        found, took = timed(whole.frames, minute)
        cost["whole minutes"] += took
        differ["whole minutes"] += int((found != alone).sum())
        values, seconds = values + theirs.size, seconds + 60
    if not seconds:
        parser.error(f"{args.data}: less than a minute of recordings")
    print(f"{seconds / 60:.0f} minutes, {values:,} values, {beyond} of them beyond {CONFIG.level_max:g} and clipped")
    for name, took in cost.items():
        told = f"{differ[name]} values differ" if name in differ else ""
        print(f"{name:18}{1000 * took / seconds:8.3f} ms of CPU a second  {told}")
    figures = {"seconds": seconds, "values": values, "beyond": beyond, "differ": differ, "cpu_s": cost}
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    sys.exit(any(differ.values()))


if __name__ == "__main__":
    main()
