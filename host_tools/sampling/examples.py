"""The examples of training and validation: clips, precomputed features and recordings without keywords."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from host_tools.config import DataConfig
from host_tools.data.dataset import Voices, count
from host_tools.data.features import levels_to_raw
from host_tools.data.label_sets import label_name, label_of
from host_tools.sampling.augment import silent_raw
from host_tools.sampling.bank import Bank, windows
from host_tools.sampling.coverage import check_sources, notes, require
from host_tools.sampling.reading import ClipReader, TrainingWords, add_clips, read_banks
from host_tools.sampling.tracks import Tracks
from kws_edge.config import FrontendConfig
from kws_edge.labels import SILENCE, UNKNOWN, is_keyword

__all__ = ["Examples", "load_examples"]


Sounds = TypeVar("Sounds")
"""Recordings without keywords: a :class:`Bank` for clips, :class:`Tracks` for sequences."""


@dataclass
class Examples(Generic[Sounds]):
    """Raw levels of training words by label, sounds without keywords, and a fixed validation set."""

    config: FrontendConfig
    labels: tuple[str, ...]
    stores: list[np.ndarray]
    """Arrays (n, frames, mels) of float16 raw levels or uint8 output levels. Examples are numbered across arrays."""
    kinds: list[str]
    """Origin of each store: ``recorded``, ``synthetic`` or ``precomputed``."""
    by_word: dict[str, np.ndarray]
    """Numbers of the training examples of each word."""
    noise: Sounds
    speech: Sounds
    validation: tuple[np.ndarray, np.ndarray]
    """Raw levels, float32 (k, frames, mels), and label indices."""
    summary: dict
    """Numbers of examples, for the run's record."""
    problems: list[str]
    """Lines on what was left out, and on what a user should know about the data."""

    def count_recorded(self, word: str) -> int:
        """Number of training examples of a word that no synthesiser made."""
        ends = np.cumsum([len(store) for store in self.stores])
        stores = np.searchsorted(ends, self.by_word[word], side="right")
        return int((np.array(self.kinds)[stores] != "synthetic").sum())

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """Raw levels of the examples with these numbers, float32."""
        out = np.empty((len(numbers), self.config.n_frames, self.config.n_mels), np.float32)
        first = 0
        for store in self.stores:
            here = (numbers >= first) & (numbers < first + len(store))
            rows = store[numbers[here] - first]
            out[here] = levels_to_raw(rows, self.config) if store.dtype == np.uint8 else rows
            first += len(store)
        return out


def load_examples(
    data: DataConfig,
    config: FrontendConfig,
    labels: Sequence[str],
    *,
    audio_copies: int = 0,
    seed: int = 0,
    sequence_frames: int = 0,
) -> Examples[Any]:
    """Index the data and compute the levels that training needs.

    `data.clips` is a Speech Commands folder. `features` is a folder of precomputed features. `speech` and `noise` are
    recordings without keywords. Only the training half of these recordings, and of the voices of `synthetic`, is used.
    All of `more_speech`, `more_noise` and `site` is used. Background noise inside the clips' folder is noise, too.
    If no recording validates a label, synthetic voices that do not train validate it.

    Files that are unreadable, cut short or empty are left out and listed in :attr:`Examples.problems`. So are empty
    folders of words, entries of split lists without a clip, and facts that the validation set does not tell.

    Parameters
    ----------
    data : DataConfig
    config : FrontendConfig
    labels : sequence of str
    audio_copies : int
        Copies of each training clip, varied as audio. They are drawn like the clips themselves.
    seed : int
        Seed of the random split, the copies and the validation set's silence.
    sequence_frames : int
        If it is not 0, noise and speech are :class:`Tracks` of sequences of this length.

    Raises
    ------
    DatasetError
        If a folder is wrong, or a label has no training or no validation example. If the names of files tell, nothing
        is computed before.
    """
    files = check_sources(data, config, labels, seed=seed)
    stand_ins = files.stand_ins(labels)
    words = TrainingWords()
    clips = ClipReader(files.left_out, config, data.cache)
    recorded = add_clips(words, files, clips, audio_copies=audio_copies, seed=seed)
    held_out = [c for c in files.recorded if c.split == "validation"]
    levels, usable, heard = clips.levels([*held_out, *stand_ins], "validation clips")
    validation = (levels[usable].astype(np.float32), heard)
    stored = files.stored
    if data.features is not None:
        rows = np.flatnonzero(stored.splits == "training")
        words.add("precomputed", stored.levels, rows, stored.words[rows].astype(object))
    rows = np.flatnonzero(stored.splits == "validation")
    validation_features = (stored.levels[rows], [str(word) for word in stored.words[rows]])
    kind, length = (Tracks, sequence_frames) if sequence_frames else (Bank, config.n_frames)
    noise, speech = (kind(length, float(silent_raw(config))) for _ in range(2))
    minutes = read_banks(files, config, noise, speech)
    by_word = words.by_word()
    validated = {*validation[1], *validation_features[1]}
    require(data.clips, labels, by_word, validated, noise=bool(noise), speech=bool(speech), left_out=files.left_out)

    rng = np.random.default_rng(seed)
    validation_set = _validation_set(validation, validation_features, noise, speech, config, labels, rng)
    summary = {
        "split": data.split,
        "training": count(label_name(labels, word) for word in words.words),
        "validation": count(labels[i] for i in validation_set[1]),
        **minutes,
        "left_out": sum(one.files for one in files.left_out),
        "origins": files.origins,
        "same_voices": Voices.of(files.recorded).words,
    }
    recorded |= {*stored.words[stored.splits == "training"]}
    told = notes(files, [w for w in labels if is_keyword(w) and w not in recorded], stand_ins)
    problems = [*told, *files.problems, *map(str, files.left_out)]
    return Examples(
        config, tuple(labels), words.stores, words.kinds, by_word, noise, speech, validation_set, summary, problems
    )


def _validation_set(
    clips: tuple[np.ndarray, list[str]],
    features: tuple[np.ndarray, list[str]],
    noise: Bank | Tracks,
    speech: Bank | Tracks,
    config: FrontendConfig,
    labels: Sequence[str],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Raw levels and label indices of the validation set.

    With an unknown class it is made like the official test set: ``unknown`` and ``silence`` have as many examples as a
    keyword. Clips come first, and precomputed features fill up labels with few clips. Without an unknown class it holds
    all examples, and silence.

    Parameters
    ----------
    clips, features : tuple
        Raw levels of clips, output levels of precomputed features, and the word of each.

    Returns
    -------
    As :attr:`Examples.validation`.
    """
    candidates: dict[int, list[np.ndarray]] = {i: [] for i in range(len(labels))}
    for raw, word in zip(*clips, strict=True):
        candidates[label_of(word, labels)].append(raw.astype(np.float32))
    keyword = [len(candidates[i]) for i, name in enumerate(labels) if name not in (SILENCE, UNKNOWN)]
    target = max(50, int(np.median(keyword)))
    extra: dict[int, list[np.ndarray]] = {i: [] for i in range(len(labels))}
    for row, word in zip(*features, strict=True):
        extra[label_of(word, labels)].append(levels_to_raw(row, config))
    raw_rows, truth = [], []
    for i, name in enumerate(labels):
        if name == SILENCE and isinstance(noise, Bank):
            rows = list(windows(noise, target, rng, config))
        elif name == UNKNOWN and not candidates[i] and not extra[i] and isinstance(speech, Bank):
            rows = list(speech.draw(target, rng))
        else:
            rng.shuffle(candidates[i])
            rng.shuffle(extra[i])
            rows = candidates[i] + extra[i]
            if UNKNOWN in labels:
                rows = rows[: target if name == UNKNOWN else max(target, len(candidates[i]))]
        raw_rows.extend(rows)
        truth.extend([i] * len(rows))
    return np.stack(raw_rows), np.array(truth)
