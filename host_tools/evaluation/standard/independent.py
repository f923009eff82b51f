"""Single words of other people than the training data's: commands that are heard, and other words that fire.

A folder of independent recordings holds ``commands/<collection>/<word>/`` and ``other_words/<collection>/other/``. Each
recording is heard alone between 1 s and 2 s of hiss, and alone behind a noise gate between digital silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from host_tools.data.recordings import recordings
from host_tools.errors import DatasetError
from host_tools.evaluation.intervals import of_mean
from host_tools.evaluation.standard.conditions import GATE_DB
from host_tools.evaluation.stream_inference import hear, loaded_model
from host_tools.evaluation.stream_synthesis import FAINT_RMS
from host_tools.parallel import run_parallel
from host_tools.sampling.noise_gate import gate_span
from kws_edge.audio.file import AudioFile
from kws_edge.config import DetectorConfig
from kws_edge.detection.calibration import wilson

__all__ = ["HeardAlone", "Recording", "alone", "find_independent", "hear_independent", "known_to"]

BEFORE_S, AFTER_S = 1, 2
SEEDS = (1, 2, 3)
COMMANDS, OTHERS = "commands", "other_words"
_PARALLEL_FROM = 100  # recordings; for fewer, starting workers takes longer than the work
_Detected = tuple[frozenset[str], ...]


@dataclass(frozen=True)
class Recording:
    """One recorded word."""

    path: Path
    kind: str
    """``commands`` or ``other_words``."""
    collection: str
    word: str


def find_independent(folder: Path) -> list[Recording]:
    """The recordings of a folder of independent recordings, in order.

    Raises
    ------
    DatasetError
        If commands or other words are missing, or a recording lies in no folder of a collection and a word.
    """
    found = []
    for kind in (COMMANDS, OTHERS):
        for path in recordings(folder / kind).paths:
            parts = path.relative_to(folder / kind).parts
            if len(parts) != 3:
                raise DatasetError(f"{path}: expected {folder / kind}/<collection>/<word>/<recording>")
            found.append(Recording(path, kind, *parts[:2]))
    return found


def known_to(found: Sequence[Recording], labels: Sequence[str]) -> list[Recording]:
    """Other words, and the commands that are labels of a model; an empty list if no command is."""
    kept = [r for r in found if r.kind == OTHERS or r.word in labels]
    return kept if any(r.kind == COMMANDS for r in kept) else []


def alone(path: Path, rate: int, *, seed: int | None) -> NDArray[np.int16]:
    """A recording between hiss, shape (n,), int16. Without `seed` it is behind a gate, between digital silence."""
    with AudioFile(path, sample_rate=rate) as audio:
        samples = audio.read_all()
    before, after = BEFORE_S * rate, AFTER_S * rate
    if seed is None:
        opens, closes = gate_span(samples, rate, GATE_DB)
        gated = np.zeros(before + len(samples) + after, np.int16)
        gated[before + opens : before + closes] = samples[opens:closes]
        return gated
    hiss = np.random.default_rng(seed).normal(0, FAINT_RMS, before + after).round().astype(np.int16)
    return np.concatenate([hiss[:before], samples, hiss[before:]])


class _Job(NamedTuple):
    loading: tuple[Any, ...]
    """Arguments of :func:`loaded_model`."""
    path: Path
    seed: int | None
    config: DetectorConfig
    thresholds: tuple[float, ...]


def _detected(job: _Job) -> _Detected:
    """The keywords that were detected in the live run, and in the replay at each threshold."""
    model = loaded_model(*job.loading)
    samples = alone(job.path, model.frontend_config.sample_rate, seed=job.seed)
    heard = hear(model, [samples], job.config, thresholds=job.thresholds)
    return tuple(frozenset(one.keyword for one in found) for found in (heard.detections, *heard.swept))


@dataclass(frozen=True)
class HeardAlone:
    """Detections in independent recordings."""

    recordings: Sequence[Recording]
    hiss: Sequence[Sequence[_Detected]]
    """Of each seed of hiss, of each recording: the keywords detected with the settings in use, and for the first seed
    at each threshold."""
    gated: Sequence[_Detected]

    def to_dict(self) -> dict[str, Any]:
        """Shares of recordings by condition (``hiss``, ``gated``) and measure, as a JSON-ready dict.

        ``heard`` is the share of commands whose own keyword is detected, ``wrong`` that of commands in which another
        one is, and ``fires`` that of other words with any detection. Each has all recordings, each collection, and the
        mean over collections. With hiss they are means over seeds.
        """
        return {"hiss": self._measures(self.hiss), "gated": self._measures([self.gated])}

    def at_threshold(self, number: int) -> dict[str, float]:
        """``heard`` (mean over collections) and ``fires`` (of all) at one of the thresholds, between hiss."""
        runs = [[detected[1 + number :] for detected in self.hiss[0]]]
        measures = self._measures(runs)
        return {"heard": measures["heard"]["mean"]["rate"], "fires": measures["fires"]["all"]["rate"]}

    def _measures(self, runs: Sequence[Sequence[_Detected]]) -> dict[str, Any]:
        words = [r.word for r in self.recordings]
        detected = [[of_one[0] for of_one in run] for run in runs]
        heard = [[word in found for word, found in zip(words, run, strict=True)] for run in detected]
        wrong = [[bool(found - {word}) for word, found in zip(words, run, strict=True)] for run in detected]
        return {
            "heard": self._shares(COMMANDS, np.array(heard)),
            "wrong": self._shares(COMMANDS, np.array(wrong)),
            "fires": self._shares(OTHERS, np.array(wrong)),
        }

    def _shares(self, kind: str, true: NDArray[np.bool_]) -> dict[str, Any]:
        """Shares of true values; `true` has shape (seeds, recordings)."""
        own = np.array([r.kind == kind for r in self.recordings])
        names = np.array([r.collection for r in self.recordings])
        by_collection = {str(name): _share(true[:, own & (names == name)]) for name in sorted({*names[own]})}
        rates = [share["rate"] for share in by_collection.values()]
        counts = [(share["rate"] * share["recordings"], share["recordings"]) for share in by_collection.values()]
        mean = {
            "rate": float(np.mean(rates)),
            "interval_95": list(of_mean(counts)),
            "lowest": min(rates),
            "highest": max(rates),
        }
        return {"all": _share(true[:, own]), "collections": by_collection, "mean": mean}


def _share(true: NDArray[np.bool_]) -> dict[str, Any]:
    """The mean over all rows, the mean of each row, and the interval of one row's mean."""
    by_seed, n = true.mean(axis=1), true.shape[1]
    return {
        "recordings": n,
        "rate": float(by_seed.mean()),
        "by_seed": [float(rate) for rate in by_seed],
        "interval_95": list(wilson(float(by_seed.mean()) * n, n)),
    }


def hear_independent(
    found: Sequence[Recording],
    loading: tuple[Any, ...],
    config: DetectorConfig,
    *,
    thresholds: Sequence[float] = (),
    seeds: Sequence[int] = SEEDS,
    workers: int | None = None,
    progress: Callable[..., Any],
) -> HeardAlone:
    """Hear independent recordings between hiss and behind a noise gate.

    Parameters
    ----------
    found : sequence of Recording
        As :func:`known_to` gives them.
    loading : tuple
        Arguments of :func:`host_tools.evaluation.stream_inference.loaded_model`.
    config : DetectorConfig
    thresholds : sequence of float
        Thresholds to replay the first seed's streams at.
    seeds : sequence of int
        Each seed gives each recording another hiss.
    workers : int, optional
        Processes; by default one a core.
    progress : callable
    """
    jobs = [
        _Job(loading, r.path, seed * 100_000 + i, config, tuple(thresholds) if seed == seeds[0] else ())
        for seed in seeds
        for i, r in enumerate(found)
    ]
    jobs += [_Job(loading, r.path, None, config, ()) for r in found]
    results = run_parallel(_detected, jobs, workers=1 if len(found) < _PARALLEL_FROM else workers)
    every = list(progress(results, total=len(jobs), desc="independent", unit="recording", mininterval=0.5))
    *hiss, gated = _rows(every, len(found))
    return HeardAlone(found, hiss, gated)


def _rows(values: Sequence[_Detected], n: int) -> Iterator[Sequence[_Detected]]:
    for start in range(0, len(values), n):
        yield values[start : start + n]
