"""Measures features in shards: clips a second and core, memory, and training from shards beside training from memory.

    python -m benchmarks.shards FOLDER [--clips 200000] [--fewer 10000] [--steps 100] [--epochs 9]

FOLDER gets synthetic clips in tar files, and their features, 15 kB a clip; what is there is used again. Processor time
counts, so other work on the machine changes little. The floor of features is the rate of --fewer clips. The floor of
training is a window that holds all clips. The other window is as large for an epoch's steps as by default, so every
epoch reads another one. Epochs of both take turns, and the median of their ratios counts: other work on the machine
slows both. Training is that of ``micro``, the smallest network. Batches are compared alone, too: there no work of the
network hides a difference.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tarfile
import time
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from host_tools.config import DataConfig, MixConfig, OptimConfig
from host_tools.sampling.batches import Batches
from host_tools.sampling.examples import load_examples
from kws_edge import preset

Batch = tuple[np.ndarray, np.ndarray]
FRONT_END = preset("logmel40")
WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "bed", "bird", "cat", "dog", "tree")
LABELS = ("silence", "unknown", *WORDS[:10])
PER_TAR = 10_000
SECONDS = 0.2


def wav(samples: np.ndarray) -> bytes:
    """A WAV file of mono int16 samples."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16000)
        out.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


def make_clips(folder: Path, clips: int) -> None:
    """Tar files of short tones in noise. Each word has its pitch."""
    folder.mkdir(parents=True, exist_ok=True)
    t = np.arange(round(16000 * SECONDS)) / 16000
    for number in range(-(-clips // PER_TAR)):
        path = folder / f"clips-{number:05d}.tar"
        if path.exists():
            continue
        rng = np.random.default_rng(number)
        with tarfile.open(f"{path}.part", "w") as out:
            for i in range(number * PER_TAR, min(clips, (number + 1) * PER_TAR)):
                word = int(rng.integers(len(WORDS)))
                tone = np.sin(2 * np.pi * (200 + 120 * word) * t + rng.uniform(0, 6))
                data = wav(6000 * rng.uniform(0.3, 1) * (tone + rng.normal(0, 0.05, len(t))))
                entry = tarfile.TarInfo(f"{WORDS[word]}/{i % 997:08x}_nohash_{i}.wav")
                entry.size = len(data)
                out.addfile(entry, io.BytesIO(data))
        os.rename(f"{path}.part", path)


def features(clips: Path, folder: Path, workers: int) -> dict[str, float]:
    """Run ``kws-host features``. Returns processor seconds and the largest memory of one of its processes."""
    command = [sys.executable, "-m", "host_tools", "features", str(clips), str(folder), "--shards", "1000000"]
    started = time.perf_counter()
    child = os.posix_spawn(command[0], [*command, "--workers", str(workers)], os.environ)
    _, status, used = os.wait4(child, 0)
    if status:
        sys.exit(f"features of {clips} failed")
    return {
        "wall_s": time.perf_counter() - started,
        "cpu_s": used.ru_utime + used.ru_stime,
        "largest_mb": used.ru_maxrss / 1024,
    }


def makers(folder: Path, noise: Path, windows: dict[str, int]) -> dict[str, Batches]:
    """What makes the batches, from windows of several sizes."""
    made = {}
    for name, window in windows.items():
        data = DataConfig(features=folder, more_noise=(noise,), window=window)
        batch_size = OptimConfig.batch_size
        made[name] = Batches(load_examples(data, FRONT_END, LABELS), MixConfig(), batch_size=batch_size, seed=1)
    return made


def trainer() -> Callable[[Batch], object]:
    """One step of training ``micro``, as ``kws-host train`` compiles it."""
    import keras

    from host_tools.networks.models import build

    keras.utils.set_random_seed(1)
    network = build("micro", FRONT_END, len(LABELS))
    network.compile(optimizer=keras.optimizers.AdamW(), loss="categorical_crossentropy", metrics=["accuracy"])
    return lambda batch: network.train_on_batch(*batch, return_dict=True)


def take_turns(
    made: dict[str, Batches], use: Callable[[Batch], object], steps: int, first: int, epochs: int
) -> dict[str, list[list[float]]]:
    """Use the batches of epochs from `first` on, of each in turn. Returns processor and wall seconds of the epochs."""
    for batches in made.values():
        for batch in batches.epoch(first, 2):  # to warm up
            use(batch)
    found: dict[str, list[list[float]]] = {name: [] for name in made}
    for epoch in range(first + 1, first + 1 + epochs):
        for name, batches in made.items() if epoch % 2 else reversed(made.items()):
            cpu, wall = time.process_time(), time.perf_counter()
            for batch in batches.epoch(epoch, steps):
                use(batch)
            found[name].append([time.process_time() - cpu, time.perf_counter() - wall])
    return found


def report(what: str, found: dict[str, list[list[float]]]) -> None:
    for name, seconds in found.items():
        cpu, wall = np.median(seconds, axis=0)
        print(f"{what} from {name}: an epoch takes {cpu:.2f} s of a core, {wall:.2f} s in all")
    cpu, wall = np.median(np.divide(found["shards"], found["memory"]), axis=0)
    print(f"{what} from shards / from memory: {cpu:.3f} of the processor, {wall:.3f} of the time in all", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=200_000)
    parser.add_argument("--fewer", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=100, help="batches of an epoch")
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    values: dict[str, Any] = {}
    for clips in (args.fewer, args.clips):
        source, made = args.folder / f"clips-{clips}", args.folder / f"features-{clips}"
        make_clips(source, clips)
        if not (made / "shards.json").exists():
            found = features(source, made, args.workers)
            values[f"features of {clips}"] = found
            rate = clips / found["cpu_s"]
            print(f"{clips:>9,} clips: {rate:,.0f} a second and core, largest process {found['largest_mb']:.0f} MB")
    noise = args.folder / "noise"
    noise.mkdir(exist_ok=True)
    (noise / "hiss.wav").write_bytes(wav(np.random.default_rng(0).normal(0, 500, 480_000)))
    part = round(DataConfig.window / OptimConfig.steps * args.steps)
    windows = {"memory": args.clips, "shards": part}
    made_of = makers(args.folder / f"features-{args.clips}", noise, windows)
    for at, (what, use) in enumerate({"training": trainer(), "batches": lambda batch: None}.items()):
        values[what] = take_turns(made_of, use, args.steps, at * (args.epochs + 1), args.epochs)
        report(what, values[what])
    if args.json:
        args.json.write_text(json.dumps(values, indent=1))


if __name__ == "__main__":
    main()
