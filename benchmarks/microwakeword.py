"""Compares models of ESPHome's micro_wake_word for one word on the same streams, in pymicro-wakeword's runtime.

    python -m benchmarks.microwakeword STREAM [STREAM ...] --word stop --model NAME=MANIFEST [--model ...] [--budget 2]

A model is a manifest with a .tflite beside it. Streams with labels, as `kws-host make-stream` writes them, count
misses. Those without labels count false accepts, and folders give their reporting half. Each model is measured with the
cutoff and the window of its manifest. Then it is measured with those, among many, that miss fewest words within a
budget of false accepts. After a detection, a model rests for a second. Intervals are of 95 %.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymicro_wakeword import MicroWakeWord, MicroWakeWordFeatures

from host_tools.evaluation.scoring import Heard, Score, score
from host_tools.evaluation.stream_audio import Condition, Stream, find_streams, samples_of
from kws_edge import Detection, preset

CONFIG = preset("microfrontend")
FRAME_S = CONFIG.hop_ms / 1000
REST_S = 1.0
WINDOWS = (1, 2, 3, 5, 8, 10)
CUTOFFS = tuple(i / 100 for i in range(5, 100))


class Word:
    """A model in pymicro-wakeword, whose probabilities are not averaged yet."""

    def __init__(self, manifest: Path) -> None:
        values = json.loads(manifest.read_text())
        micro = values["micro"]
        self.cutoff, self.window = micro["probability_cutoff"], micro["sliding_window_size"]
        values["model"] = str((manifest.parent / values["model"]).resolve())
        micro["sliding_window_size"] = 1
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / manifest.name
            path.write_text(json.dumps(values))
            self._model = MicroWakeWord.from_config(path)
        self.answer_s = self._model.stride * FRAME_S

    def hear(self, rows: Sequence[NDArray[Any]]) -> tuple[NDArray[np.float64], float]:
        """The probability at each answer of a stream, and seconds of the processor."""
        self._model.reset()
        started = time.process_time()
        found = [self._model.process_streaming_prob(row) for row in rows]
        stride = self._model.stride
        return np.array(found[stride - 1 :: stride], np.float64), time.process_time() - started


@dataclass
class Track:
    """What a model gave on one stream."""

    stream: Stream
    duration_s: float
    probabilities: NDArray[np.float64]

    def heard(self, word: str, window: int, cutoff: float, answer_s: float) -> Heard:
        """The stream with its detections."""
        summed = np.cumsum(np.concatenate([[0.0], self.probabilities]))
        means = (summed[window:] - summed[:-window]) / window
        found: list[Detection] = []
        for i in np.flatnonzero(means > cutoff):
            end_s = min(self.duration_s, (int(i) + window) * answer_s + (CONFIG.frame_ms / 1000 - FRAME_S))
            if not found or end_s - found[-1].end_s >= REST_S:
                found.append(Detection(word, float(means[i]), max(0.0, end_s - 1), end_s))
        return Heard(str(self.stream.path), self.duration_s, self.stream.words, found)


def tracks_of(words: dict[str, Word], streams: Sequence[Stream]) -> tuple[dict[str, list[Track]], dict[str, float]]:
    """Let all models hear all streams. Returns what they gave, and seconds of the processor."""
    tracks: dict[str, list[Track]] = {name: [] for name in words}
    cost = dict.fromkeys(words, 0.0)
    for stream in streams:
        samples = np.concatenate([*samples_of(stream, CONFIG.sample_rate, Condition()), np.zeros(0, np.int16)])
        rows = list(MicroWakeWordFeatures().process_streaming(samples.tobytes()))
        for name, word in words.items():
            probabilities, cpu_s = word.hear(rows)
            cost[name] += cpu_s
            tracks[name].append(Track(stream, len(samples) / CONFIG.sample_rate, probabilities))
    return tracks, cost


def scored(tracks: Sequence[Track], word: str, window: int, cutoff: float, answer_s: float) -> Score:
    return score([track.heard(word, window, cutoff, answer_s) for track in tracks], [word])


def told(tracks: Sequence[Track], word: str, window: int, cutoff: float, answer_s: float) -> dict[str, Any]:
    """Misses of each stream with words, and false accepts on all without, as numbers."""
    spoken = [track for track in tracks if track.stream.spoken]
    parts = {track.stream.path.stem: scored([track], word, window, cutoff, answer_s) for track in spoken}
    everything = scored(tracks, word, window, cutoff, answer_s)
    return {
        "window": window,
        "cutoff": cutoff,
        "missed": {name: part.to_dict()["false_rejects"] for name, part in parts.items()},
        "other_words": {name: part.false_accepts for name, part in parts.items()},
        "false_accepts": everything.to_dict()["false_accepts_without_words"],
        "delay_ms": everything.delays_ms(50, 95),
    }


@dataclass(frozen=True, order=True)
class Point:
    """What a window and a cutoff miss and accept."""

    missed: int
    accepted: int
    window: int
    cutoff: float


def points_within(tracks: Sequence[Track], word: str, budget: float, answer_s: float) -> tuple[list[Point], float]:
    """All windows and cutoffs that keep to the budget. Returns them, and the hours without words."""
    quiet = [track for track in tracks if not track.stream.spoken]
    spoken = [track for track in tracks if track.stream.spoken]
    hours = sum(track.duration_s for track in quiet) / 3600
    found = []
    for window, cutoff in itertools.product(WINDOWS, CUTOFFS):
        accepted = scored(quiet, word, window, cutoff, answer_s).false_accepts
        if accepted <= budget * hours:
            missed = scored(spoken, word, window, cutoff, answer_s).false_rejects
            found.append(Point(missed, accepted, window, cutoff))
    return found, hours


def best(points: Sequence[Point], most: float) -> Point | None:
    """The point that misses fewest words, of those with at most so many false accepts."""
    return min((point for point in points if point.accepted <= most), default=None)


def line(values: dict[str, Any] | None) -> str:
    if values is None:
        return "no cutoff keeps to the budget"
    accepts = values["false_accepts"]
    low, high = accepts["interval_95"]
    missed = ", ".join(
        f"{name} {100 * one['rate']:.1f} % of {one['words']} ({100 * one['interval_95'][0]:.1f} to"
        f" {100 * one['interval_95'][1]:.1f})"
        for name, one in values["missed"].items()
    )
    other = ", ".join(f"{name} {n}" for name, n in values["other_words"].items())
    return (
        f"window {values['window']}, cutoff {values['cutoff']:g}: {accepts['count']} false accepts,"
        f" {accepts['per_hour']:.2f} an hour ({low:.2f} to {high:.2f}); missed {missed}; on other words {other}"
    )


def named(text: str) -> tuple[str, Path]:
    """A ``type`` of argparse that reads ``NAME=MANIFEST``."""
    name, _, path = text.partition("=")
    if not (name and path):
        raise argparse.ArgumentTypeError(f"must be NAME=MANIFEST, got {text!r}")
    return name, Path(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("streams", nargs="+", type=Path)
    parser.add_argument("--word", required=True)
    parser.add_argument("--model", action="append", required=True, type=named, metavar="NAME=MANIFEST")
    parser.add_argument("--budget", type=float, nargs="+", default=[2.0], metavar="N", help="false accepts per hour")
    parser.add_argument("--also-said", type=Path, metavar="CSV", help="as kws-host stream-eval takes it")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    streams = find_streams(args.streams, half="reporting", also_said=args.also_said)
    words = {name: Word(path) for name, path in args.model}
    tracks, cost = tracks_of(words, streams)
    hours = sum(track.duration_s for track in next(iter(tracks.values()))) / 3600
    results: dict[str, Any] = {}
    for name, word in words.items():
        heard = tracks[name]
        shipped = told(heard, args.word, word.window, word.cutoff, word.answer_s)
        points, quiet_hours = points_within(heard, args.word, max(args.budget), word.answer_s)
        budgets = {}
        for budget in args.budget:
            point = best(points, budget * quiet_hours)
            budgets[f"{budget:g}"] = point and told(heard, args.word, point.window, point.cutoff, word.answer_s)
        results[name] = {"manifest": shipped, "budgets": budgets, "cpu_ms_per_s": cost[name] / hours / 3.6}
        print(f"{name}: {results[name]['cpu_ms_per_s']:.2f} ms of the processor a second")
        print(f"  its manifest: {line(shipped)}")
        for budget, values in budgets.items():
            print(f"  at {budget} an hour: {line(values)}")
    if args.json:
        args.json.write_text(json.dumps({"hours": hours, "models": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
