"""Measures the computation of training features: clips a second, memory, cores used, time for the whole dataset.

    python benchmarks/feature_extraction.py DATA [--clips 16000]

DATA is a folder laid out like Speech Commands, or a folder of several such folders. Its clips are taken in turn, up to
the number of --clips. The floor is measured in the same run on the same clips. It is the work that cannot be saved:
decoding the file, the bare FFT and the matrix product, in one process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # threads of the floor's matrix product would spin

import numpy as np
import soundfile

from host_tools.data.features import clip_features
from kws_edge import preset
from kws_edge.features.mel import mel_matrix, window

WHOLE = 105_835  # files of Speech Commands v0.02
FLOOR_CLIPS = 1000


def floor_seconds(paths, config) -> float:
    """CPU seconds that decoding, FFT and matrix product alone take for a clip."""
    shape, hann = mel_matrix(config), window(config)
    best = np.inf
    half = -(-min(FLOOR_CLIPS, len(paths)) // 2)
    for part in (paths[:half], paths[-half:]):
        started = time.process_time()
        for path in part:
            samples = soundfile.read(path, dtype="int16")[0]
            frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), config.frame_length)
            spectrum = np.fft.rfft(frames[:: config.hop_length] * hann, config.n_fft)
            _ = (np.abs(spectrum) ** 2) @ shape
        best = min(best, (time.process_time() - started) / len(part))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--clips", type=int, default=16_000)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    config = preset("logmel40")
    found = sorted(p for p in args.data.rglob("*.wav") if p.stat().st_size <= 2 * config.clip_samples + 44)
    if not found or args.clips < 1:
        parser.error(f"{args.data}: {len(found)} files of up to 2 s, of which {args.clips} clips are to be taken")
    paths = list(islice(cycle(found), args.clips))
    floor = floor_seconds(found, config)
    with tempfile.TemporaryDirectory() as cache:
        started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        features = clip_features(paths, config, cache=Path(cache))
        wall = time.perf_counter() - started
    after, own = resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    cores = os.cpu_count()
    values = {
        "clips": len(paths),
        "different_files": len(found),
        "skipped": len(features.skipped),
        "cores": cores,
        "seconds": round(wall, 2),
        "clips_per_second": round(len(paths) / wall),
        "cores_used": round(cpu / wall, 2),
        "peak_mb_at_most": round((own.ru_maxrss + cores * after.ru_maxrss) / 1024),
        "extrapolated_to_105835_seconds": round(wall * WHOLE / len(paths), 1),
        "cpu_per_clip_to_floor": round(cpu / len(paths) / floor, 2),
    }
    print("\n".join(f"{name.replace('_', ' '):<32}{value}" for name, value in values.items()))
    if args.json:
        args.json.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
