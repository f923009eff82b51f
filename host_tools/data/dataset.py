"""Folders of recordings laid out like Speech Commands: ``<word>/<speaker>_nohash_<n>.wav``, of any format of audio.

Every recording in such a folder is used, or listed as left out with the reason. :class:`Voices` says which speakers are
heard in two parts of the split.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from host_tools.data.label_sets import SPOKEN_AS_UNKNOWN, spelt
from host_tools.data.recordings import (
    LeftOut,
    all_left_out,
    existing_folder,
    find_audio,
    loose_recordings,
    visible_entries,
)
from host_tools.data.splits import SPLITS, Recording, official_parts, random_split
from host_tools.errors import DatasetError
from kws_edge.labels import UNKNOWN, is_keyword
from kws_edge.text import printable

__all__ = [
    "BACKGROUND_FOLDER",
    "Clip",
    "Index",
    "Voices",
    "count",
    "index_clips",
    "index_labelled",
    "spelt_alike",
    "word_of",
]

BACKGROUND_FOLDER = "_background_noise_"


@dataclass(frozen=True)
class Clip:
    """A recorded word."""

    path: Path
    word: str
    speaker: str
    """Empty where nothing tells."""
    split: str


@dataclass(frozen=True)
class Index:
    """What a Speech Commands folder holds."""

    clips: list[Clip]
    """Sorted by word and name."""
    background: list[Path]
    """Recordings without speech, sorted."""
    left_out: list[LeftOut]
    problems: list[str]
    """Lines on anything else that a user should know about the folder."""


class Voices(NamedTuple):
    """The speakers outside training, and whether they speak in training, too."""

    others: int
    """Speakers outside training."""
    shared: int
    """Number of `others` who speak in training, too."""
    unnamed: int
    """Number of clips outside training whose speaker is unknown."""
    words: tuple[str, ...]
    """Words of clips outside training whose speaker is unknown, or speaks in training."""

    @classmethod
    def of(cls, clips: Sequence[Clip]) -> Voices:
        """The voices of a split."""
        training = {c.speaker for c in clips if c.split == "training"}
        others = [c for c in clips if c.split != "training"]
        known = {c.speaker for c in others if c.speaker}
        same = [c for c in others if not c.speaker or c.speaker in training]
        unnamed = sum(not c.speaker for c in same)
        return cls(len(known), len(known & training), unnamed, tuple(sorted({c.word for c in same})))

    def __str__(self) -> str:
        """A line for people. It is empty if no speaker outside training speaks in training."""
        facts = []
        if self.shared:
            facts.append(f"{self.shared} of the {self.others} speakers outside training speak in training, too")
        if self.unnamed:
            facts.append(
                f"{self.unnamed} clips outside training name no speaker (as hello/anna/1.wav does), so that their"
                " voices may train, too"
            )
        more = f" and {len(self.words) - 5} other words" if len(self.words) > 5 else ""
        words = ", ".join(self.words[:5]) + more
        return printable(f"{'; '.join(facts)}: expect worse for strangers than measured on {words}") if facts else ""


def index_clips(folder: str | Path, *, split: str = "official", seed: int = 0) -> Index:
    """Every clip of a Speech Commands folder, with its part of the split, and everything else in the folder.

    A folder's name is the word. The name of a folder within it is a speaker. ``_background_noise_``, ``_silence_`` and
    similar names hold noise. ``_unknown_`` holds words that are no keywords.

    Parameters
    ----------
    folder : path
    split : str
        ``official``: ``validation_list.txt`` and ``testing_list.txt`` split the recordings of Speech Commands, and of
        the words of which they name other recordings. Without lists :func:`host_tools.data.splits.official_split`
        does. Of other recordings of each word some validate and some train. ``random``: :func:`random_split` splits
        all, as in the reference system.
    seed : int
        Seed of the random split.

    Raises
    ------
    DatasetError
        If the folder does not exist, it holds no ``<word>/*.wav``, a list cannot be read, or `split` is unknown.
    """
    folder = existing_folder(folder)
    if split not in SPLITS:
        raise DatasetError(f"unknown split {split!r}; known are {', '.join(SPLITS)}")
    clips: list[Recording] = []
    background: list[Path] = []
    left_out: list[LeftOut] = []
    problems: list[str] = []
    entries = list(visible_entries(folder))
    for sub in filter(Path.is_dir, entries):
        word = word_of(sub.name)
        if not word and not is_keyword(sub.name):
            found = find_audio(sub)
            background += found.paths
        elif not word:
            left_out += all_left_out(sub, "recordings in a folder that is no word: its name begins with _")
            continue
        else:
            found = find_audio(sub)
            depth = len(sub.parts) - 1
            for path in found.paths:
                names = tuple(map(spelt, path.parts[depth:]))
                clips.append(Recording(path, word, names))
            if not found.paths:
                problems.append(f"{sub}: no recording in this folder")
        left_out += found.left_out
    left_out += loose_recordings(entries)
    problems += _look_alikes(clips)
    if not clips:
        raise DatasetError(f"{folder}: no clips of the form <word>/<speaker>_nohash_<n>.wav in it")
    if split == "random":
        parts = random_split([entry.word for entry in clips], seed=seed)
    else:
        parts, said = official_parts(folder, clips)
        problems += said
    named = [Clip(one.path, one.word, one.speaker, part) for one, part in zip(clips, parts, strict=True)]
    return Index(named, background, left_out, [printable(line) for line in problems])


def word_of(folder: str) -> str:
    """The word that the recordings in a folder of this name say; empty if they say none, or the name begins with _."""
    word = spelt(folder)
    if word.strip("_").lower() == UNKNOWN:
        return SPOKEN_AS_UNKNOWN
    return word if is_keyword(word) and not word.startswith("_") else ""


def spelt_alike(words: Iterable[str]) -> list[str]:
    """Lines on words that differ by capitals alone."""
    spellings: dict[str, set[str]] = {}
    for word in words:
        spellings.setdefault(word.casefold(), set()).add(word)
    alike = (", ".join(sorted(same)) for same in spellings.values() if len(same) > 1)
    return [printable(f"the words {words} differ by capitals alone") for words in alike]


def _look_alikes(clips: Sequence[Recording]) -> list[str]:
    """Lines on words that differ by capitals alone, and on recordings that are there twice."""
    formats: dict[Path, list[Path]] = {}
    for path, _, _ in clips:
        formats.setdefault(path.with_suffix(""), []).append(path)
    lines = spelt_alike(dict.fromkeys(word for _, word, _ in clips))
    if twice := [paths for paths in formats.values() if len(paths) > 1]:
        lines.append(
            f"{len(twice)} recordings are there in more than one format, and each counts, the first: {twice[0][0]} and "
            f"{twice[0][1].name}"
        )
    return lines


def index_labelled(folder: str | Path) -> tuple[list[tuple[Path, str]], list[LeftOut]]:
    """Clips of a folder whose sub-folders are labels (``_silence_`` and ``_unknown_`` as in the official test set).

    Returns
    -------
    pairs : list of (path, label)
        Sorted. Labels have no surrounding underscores.
    left_out : list of LeftOut
    """
    pairs, entries = [], list(visible_entries(existing_folder(folder)))
    left_out = loose_recordings(entries)
    for sub in filter(Path.is_dir, entries):
        if sub.name != BACKGROUND_FOLDER:
            found = find_audio(sub)
            pairs += [(path, spelt(sub.name).strip("_")) for path in found.paths]
            left_out += found.left_out
    if not pairs:
        raise DatasetError(f"{folder}: no clips of the form <label>/*.wav in it")
    return pairs, left_out


def count(values: Iterable[str]) -> dict[str, int]:
    """How often each value occurs, by value."""
    names, counts = np.unique(list(values), return_counts=True)
    return {str(n): int(c) for n, c in zip(names, counts, strict=True)}
