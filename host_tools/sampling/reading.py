"""Reads the files of examples: levels of words, and banks of recordings without keywords."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from host_tools.config import AugmentConfig
from host_tools.data.dataset import Clip
from host_tools.data.features import clip_features, recording_features
from host_tools.data.recordings import LeftOut, first_left_out, unreadable
from host_tools.errors import DatasetError
from host_tools.sampling.augment import AudioVariation
from host_tools.sampling.sources import Files
from kws_edge.config import FrontendConfig

__all__ = ["ClipReader", "TrainingWords", "add_clips", "read_banks"]


class TrainingWords:
    """Examples of words from several stores, numbered in the order in which they are added."""

    def __init__(self) -> None:
        self.stores: list[np.ndarray] = []
        self.kinds: list[str] = []
        self._numbers: list[np.ndarray] = []
        self._words: list[np.ndarray] = []

    def add(self, kind: str, levels: np.ndarray, usable: np.ndarray, words: np.ndarray) -> None:
        """Add a store. Its rows `usable` are examples of `words`."""
        self._numbers.append(usable + sum(map(len, self.stores)))
        self._words.append(words)
        self.stores.append(levels)
        self.kinds.append(kind)

    @property
    def words(self) -> np.ndarray:
        """The word of every example."""
        return np.concatenate(self._words)

    def by_word(self) -> dict[str, np.ndarray]:
        words, numbers = self.words, np.concatenate(self._numbers)
        return {str(word): numbers[words == word] for word in sorted(set(words))}


@dataclass
class ClipReader:
    """Computes levels of clips. Clips that cannot be used go to `left_out`."""

    left_out: list[LeftOut]
    config: FrontendConfig
    cache: Path | None

    def levels(self, clips: Sequence[Clip], what: str, **options: Any) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Levels of clips, numbers of the usable clips, and their words."""
        found = clip_features([c.path for c in clips], self.config, cache=self.cache, what=what, **options)
        self.left_out.extend(unreadable(clips[i].path, why) for i, why in found.skipped.items())
        return found.levels, found.usable, [clips[i].word for i in found.usable]


def add_clips(words: TrainingWords, files: Files, clips: ClipReader, *, audio_copies: int, seed: int) -> set[str]:
    """Add training clips, their varied copies, clips of the site and synthetic clips. Returns the recorded words.

    Parameters
    ----------
    words : TrainingWords
        Gets the clips.
    files : Files
    clips : ClipReader
    audio_copies : int
        Varied copies of each training clip.
    seed : int
        Seed of the copies.
    """
    training = [c for c in files.recorded if c.split == "training"]
    levels, usable, spoken = clips.levels(training, "training clips")
    recorded = np.array(spoken, dtype=object)
    words.add("recorded", levels, usable, recorded)
    settings = AugmentConfig(reverberation=0.5, noise_share=0)
    for copy in range(audio_copies):
        vary = AudioVariation(settings=settings, sample_rate=clips.config.sample_rate, seed=seed, copy=copy)
        paths = [c.path for c in training]
        varied = clip_features(paths, clips.config, cache=clips.cache, vary=vary, what=f"varied copy {copy + 1}")
        words.add("recorded", varied.levels, usable, recorded)
    if files.site:
        levels, usable, spoken = clips.levels(files.site, "clips of the site")
        words.add("site", levels, usable, np.array(spoken, dtype=object))
        recorded = np.concatenate([recorded, np.array(spoken, dtype=object)])
    if synthetic := [c for c in files.synthetic if c.split == "training"]:
        levels, usable, spoken = clips.levels(synthetic, "synthetic clips")
        words.add("synthetic", levels, usable, np.array(spoken, dtype=object))
    return {*recorded}


class Negatives(Protocol):
    """Holds recordings without keywords, such as :class:`host_tools.sampling.bank.Bank`."""

    def add(self, recordings: Sequence[np.ndarray], said: Sequence[Sequence[tuple[float, float]]], /) -> int:
        """Add a group of raw levels, and the spans in which keywords are said. Returns the number of frames taken."""


def read_banks(files: Files, config: FrontendConfig, noise: Negatives, speech: Negatives) -> dict[str, float]:
    """Read noise and speech without keywords. Returns the minutes of each kind, for the run's record."""
    minutes = dict.fromkeys(("noise", "speech", "synthetic speech"), 0.0)
    for kind, paths in files.banks:
        levels, skipped = recording_features(paths, config, what=kind)
        files.left_out.extend(unreadable(path, why) for path, why in skipped.items())
        keywords = [files.said.get(path.stem, ()) for path in paths if path not in skipped]
        frames = [
            [(1000 * w.start_s / config.hop_ms, 1000 * w.end_s / config.hop_ms) for w in each] for each in keywords
        ]
        taken = (noise if kind == "noise" else speech).add(levels, frames)
        minutes[kind] += taken * config.hop_ms / 60000
        if not taken and paths:
            raise DatasetError(f"{paths[0].parent}: no usable recording" + first_left_out(files.left_out))
    names = {"noise": "noise_minutes", "speech": "speech_minutes", "synthetic speech": "synthetic_minutes"}
    return {names[kind]: round(value, 1) for kind, value in minutes.items()}
