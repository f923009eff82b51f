"""Measures models on words of strangers: commands that are heard, and other words that fire.

    python benchmarks/strangers.py DATA NAME=MODEL [NAME=MODEL ...] -o DIR

DATA holds `independent/commands/<collection>/<word>/` and `independent/other_words/<collection>/other/`. These
recordings have nothing to do with the training data. Each is heard alone between 1 s and 2 s of hiss (3 units of
32768). It is also heard alone behind a noise gate, as a word between digital silence. A command is heard if its keyword
is detected. Any detection in another word counts as a false accept. Each seed gives another hiss, and figures differ by
half a point. The results are `table.md` and `strangers.json`.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from host_tools.data.annotations import Word
from host_tools.data.recordings import recordings
from host_tools.evaluation.stream_inference import hear
from host_tools.evaluation.stream_replay import Track, replay
from host_tools.evaluation.stream_synthesis import FAINT_RMS
from host_tools.parallel import run_parallel
from host_tools.sampling.noise_gate import gated, word_bounds
from kws_edge import AudioFile, DetectorConfig, Model
from kws_edge.detection.calibration import wilson

BEFORE_S, AFTER_S = 1, 2
SEEDS = (1, 2, 3)
CONDITIONS = ("hiss", "gated")
KINDS = ("commands", "other_words")


@dataclass(frozen=True)
class Recording:
    """One recorded word."""

    path: Path
    kind: str
    """Of :data:`KINDS`."""
    collection: str
    word: str


def find(data: Path) -> list[Recording]:
    """The recordings of `DATA/independent`, in order."""
    root = data / "independent"
    return [
        Recording(path, kind, *path.relative_to(root / kind).parts[:2])
        for kind in KINDS
        for path in sorted(recordings(root / kind).paths)
    ]


def stream(path: Path, rate: int, *, seed: int | None) -> np.ndarray:
    """A recording between hiss, shape (n,), int16. Without `seed`, its word lies between digital silence."""
    with AudioFile(path, sample_rate=rate) as audio:
        samples = np.concatenate([*audio, np.empty(0, np.int16)])
    before, after = BEFORE_S * rate, AFTER_S * rate
    if seed is None:
        start, end = word_bounds(samples, rate)
        (samples,) = gated([samples], [Word(start / rate, end / rate, "")], rate)
        return np.pad(samples, (before, after))
    hiss = np.random.default_rng(seed).normal(0, FAINT_RMS, before + after).round().astype(np.int16)
    return np.concatenate([hiss[:before], samples, hiss[before:]])


@functools.cache
def _model(name: str) -> Model:
    return Model(name)


def _track(job: tuple[str, Path, int | None]) -> Track:
    model, path, seed = job
    loaded = _model(model)
    return hear(loaded, [stream(path, loaded.frontend_config.sample_rate, seed=seed)], loaded.detector_config).track


class Heard:
    """One model on all recordings. Posteriors are computed once, and serve all settings."""

    def __init__(self, model: str, found: Sequence[Recording], seeds: Sequence[int] = SEEDS) -> None:
        self.own = Model(model).detector_config
        self.found = found
        every = [(condition, seed) for condition, seed in (*(("hiss", seed) for seed in seeds), ("gated", None))]
        # Every recording's hiss is its own.
        jobs = [
            (model, r.path, None if seed is None else seed * 100_000 + i)
            for _, seed in every
            for i, r in enumerate(found)
        ]
        tracks = iter(run_parallel(_track, jobs))
        self.tracks = [(condition, [next(tracks) for _ in found]) for condition, _ in every]

    def at(self, config: DetectorConfig) -> dict:
        """Shares of recordings that are heard with these settings, by condition and kind.

        They are given for all recordings, for each collection, and as the mean over collections. With hiss they are
        means over seeds.
        """
        values = {"settings": config.to_dict()}
        for condition in CONDITIONS:
            runs = [self._fired(tracks, config) for name, tracks in self.tracks if name == condition]
            values[condition] = {kind: self._rates(kind, np.array(runs)) for kind in KINDS}
        return values

    def _fired(self, tracks: Sequence[Track], config: DetectorConfig) -> list[bool]:
        """Whether each recording's command was detected. For other words, whether anything was detected."""
        heard = ({found.keyword for found in replay(track, config)} for track in tracks)
        return [
            r.word in words if r.kind == KINDS[0] else bool(words) for r, words in zip(self.found, heard, strict=True)
        ]

    def _rates(self, kind: str, fired: np.ndarray) -> dict:
        """Rates of detections. `fired` has a row for each seed."""
        by_collection = {}
        for name in sorted({r.collection for r in self.found if r.kind == kind}):
            own = [i for i, r in enumerate(self.found) if r.kind == kind and r.collection == name]
            by_collection[name] = _share(fired[:, own])
        return {
            "all": _share(fired[:, [r.kind == kind for r in self.found]]),
            "collections": by_collection,
            "mean_over_collections": float(np.mean([share["rate"] for share in by_collection.values()])),
        }


def _share(fired: np.ndarray) -> dict:
    """Mean over all rows, the spread of the rows' means, and the interval of one row's mean."""
    by_seed, n = fired.mean(axis=1), fired.shape[1]
    return {
        "recordings": n,
        "rate": float(by_seed.mean()),
        "by_seed": [float(rate) for rate in by_seed],
        "interval_95": list(wilson(round(float(by_seed.mean()) * n), n)),
    }


def table(results: dict[str, dict]) -> str:
    """The results as Markdown, with a column for each model."""

    def rows() -> Iterator[list[str]]:
        first = next(iter(results.values()))
        yield ["", *results]
        yield ["---"] * (len(results) + 1)
        yield ["smoothing, threshold, margin", *(_settings(v["settings"]) for v in results.values())]
        for condition in CONDITIONS:
            for kind, verb in zip(KINDS, ("heard of", "fire of"), strict=True):
                for name, share in first[condition][kind]["collections"].items():
                    yield [f"{condition}: {verb} {share['recordings']} {_name(kind)}, collection {name}"] + [
                        f"{v[condition][kind]['collections'][name]['rate']:.1%}" for v in results.values()
                    ]
                yield [f"{condition}: {verb} {first[condition][kind]['all']['recordings']:,} {_name(kind)}"] + [
                    _percent(v[condition][kind]["all"]) for v in results.values()
                ]
                yield [f"{condition}: {_name(kind)}, mean over collections"] + [
                    f"{v[condition][kind]['mean_over_collections']:.1%}" for v in results.values()
                ]

    return "".join(f"| {' | '.join(row)} |\n" for row in rows())


def _name(kind: str) -> str:
    return kind.replace("_", " ")


def _settings(config: dict) -> str:
    own = "".join(f", {word} {value:g}" for word, value in config["thresholds"].items())
    return f"{config['smoothing_ms']:g} ms, {config['threshold']:g}{own}, {config.get('speech_margin', 0):g}"


def _percent(share: dict) -> str:
    low, high = (max(0.0, x) for x in share["interval_95"])
    spread = (
        f"; {min(share['by_seed']):.1%} to {max(share['by_seed']):.1%} by seed" if len(share["by_seed"]) > 1 else ""
    )
    return f"{share['rate']:.1%} ({low:.1%} to {high:.1%}{spread})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--threshold", type=float, metavar="X", help="threshold that replaces each model's own")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), metavar="N", help="seeds of the hiss")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    found, results = find(args.data), {}
    for name, model in (pair.split("=", 1) for pair in args.models):
        heard = Heard(model, found, args.seeds)
        changes = {"threshold": args.threshold, "thresholds": {}} if args.threshold else {}
        results[name] = heard.at(dataclasses.replace(heard.own, **changes))
    text = table(results)
    (args.output / "table.md").write_text(text)
    (args.output / "strangers.json").write_text(json.dumps(results, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
