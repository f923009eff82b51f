"""Splits clips into training, validation and testing: the official split of Speech Commands, and a random one.

The official split follows the lists in the folder, or else a hash of the speaker's id. Your own recordings follow the
same hash of their speakers, or of the recordings if there are few speakers. The random split does not keep speakers
apart.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from host_tools.data.label_sets import spelt
from host_tools.data.origins import is_official
from host_tools.errors import DatasetError

__all__ = ["PARTS", "SPLITS", "Recording", "official_parts", "official_split", "random_split"]

SPLITS = ("official", "random")
PARTS = ("training", "validation", "testing")
_LISTS = {"validation": "validation_list.txt", "testing": "testing_list.txt"}
_RANDOM_SHARES = (0.70, 0.15, 0.15)  # in the order of PARTS
_MAX_CLIPS_PER_CLASS = 2**27 - 1  # constant of the dataset's split function
_NOHASH = "_nohash_"
_LARGEST_VOICE = 0.25
"""Your own word is split by speaker if no speaker has more than this share of its recordings."""


class Recording(NamedTuple):
    """A recording of a word, before it has a part of a split."""

    path: Path
    word: str
    names: tuple[str, ...]
    """Names of the word's folder, of the folders within it, and of the file, each as :func:`spelt` gives it."""

    @property
    def speaker(self) -> str:
        """The file's name before ``_nohash_``, or else the folder within the word's folder, or else empty."""
        before, marked, _ = self.names[-1].partition(_NOHASH)
        return before if marked else self.names[1] if len(self.names) > 2 else ""


def official_split(name: str) -> str:
    """Part of the official Speech Commands split, by the name of the recording's file or of its speaker.

    Source: ``which_set`` in the dataset's own README.

    Returns
    -------
    str
        ``training``, ``validation`` or ``testing``.
    """
    return _part(_percent(name.partition(_NOHASH)[0]))


def _percent(group: str) -> float:
    """The hash of a group's name as a number from 0 to 100. A group stays together."""
    digest = int(hashlib.sha1(os.fsencode(group)).hexdigest(), 16)
    return (digest % (_MAX_CLIPS_PER_CLASS + 1)) * (100.0 / _MAX_CLIPS_PER_CLASS)


def _part(percent: float) -> str:
    return "validation" if percent < 10 else "testing" if percent < 20 else "training"


def _own_split(entries: Sequence[Recording], others: Iterable[str]) -> list[str]:
    """Part of the split of each recording of a word that is neither of Speech Commands nor in a list of yours.

    The part follows the hash of the speaker. It follows the hash of the recording's name if no speaker is named, or if
    a speaker has more than :data:`_LARGEST_VOICE` of the recordings. So a recording keeps its part when others are
    added, except in two cases. If nothing else validates, the group with the lowest hash does. If nothing else trains,
    the group with the highest hash does.

    Parameters
    ----------
    entries : sequence of Recording
    others : iterable of str
        Parts of those recordings of the word that are of Speech Commands.
    """
    groups = names = ["/".join(entry.names[1:]) for entry in entries]
    voices = Counter(entry.speaker for entry in entries if entry.speaker)
    if max(voices.values(), default=0) <= _LARGEST_VOICE * len(entries):
        groups = [entry.speaker or name for entry, name in zip(entries, names, strict=True)]
    percent = {group: _percent(group) for group in groups}
    parts = {group: _part(value) for group, value in percent.items()}
    for part, choose in (("validation", min), ("training", max)):
        if part not in {*parts.values(), *others}:
            parts[choose(percent, key=percent.__getitem__)] = part
    return [parts[group] for group in groups]


def random_split(groups: Sequence[str], *, seed: int) -> list[str]:
    """Part of a random split of each clip, whoever speaks: 70 % training, 15 % validation, 15 % testing.

    Parameters
    ----------
    groups : sequence of str
        The word of each clip. Every word is split by itself, in these shares.
    seed : int
        The same seed and the same words give the same split.
    """
    bounds = np.cumsum(_RANDOM_SHARES)
    words, parts = np.array(groups), np.empty(len(groups), object)
    for i, word in enumerate(np.unique(words)):
        members = np.flatnonzero(words == word)
        place = (np.random.default_rng((seed, i)).permutation(len(members)) + 0.5) / len(members)
        parts[members] = [PARTS[k] for k in np.searchsorted(bounds, place)]
    return list(parts)


def official_parts(folder: Path | None, clips: Sequence[Recording]) -> tuple[list[str], list[str]]:
    """Part of the official split of each recording, and lines on entries of the folder's lists that do not fit.

    The lists of Speech Commands do not name your recordings. A list that names a recording of yours is your own, and
    settles all recordings of the word. Without a folder there are no lists.
    """
    listed, yours, problems = _listed(folder, clips) if folder else ({}, set(), [])
    parts: dict[int, str] = {}
    own: dict[str, list[int]] = {}
    others: dict[str, set[str]] = {}
    for number, entry in enumerate(clips):
        official = is_official(entry.word, entry.path.name)
        if entry.word in listed and (official or entry.word in yours):
            parts[number] = listed[entry.word].get(number, "training")
        elif official:
            parts[number] = official_split(entry.path.name)
        else:
            own.setdefault(entry.word, []).append(number)
            continue
        others.setdefault(entry.word, set()).add(parts[number])
    for word, numbers in own.items():
        split = _own_split([clips[number] for number in numbers], others.get(word, ()))
        parts |= zip(numbers, split, strict=True)
    return [parts[number] for number in range(len(clips))], problems


def _listed(folder: Path, clips: Sequence[Recording]) -> tuple[dict[str, dict[int, str]], set[str], list[str]]:
    """Parts of the split by a recording's number, for each word in the folder's lists, and lines on what is wrong.

    The words between them are those of which a list names other recordings than those of Speech Commands.
    """
    numbers = {entry.names: number for number, entry in enumerate(clips)}
    listed: dict[str, dict[int, str]] = {}
    yours: set[str] = set()
    problems, twice = [], set()
    for part, name in _LISTS.items():
        strange, entries = [], list(dict.fromkeys(_list_entries(folder / name)))
        for entry in entries:
            names = tuple(re.split(r"[/\\]+", entry))
            number = next((numbers[tail] for at in range(len(names)) if (tail := names[at:]) in numbers), None)
            word = "".join(names[-2:-1]) if number is None else clips[number].word
            parts = listed.setdefault(word, {})
            if not is_official(word, names[-1]):
                yours.add(word)
            if number is None:
                strange.append(entry)
                continue
            if parts.get(number, part) != part:
                twice.add(number)
            parts[number] = part
        if strange:
            problems.append(
                f"{folder / name}: {len(strange)} of {len(entries)} entries match no clip, the first: {strange[0]!r}"
            )
    if twice:
        problems.append(
            f"{len(twice)} clips are in both lists and count as {part}, the first: {clips[min(twice)].path}"
        )
    return listed, yours, problems


def _list_entries(path: Path) -> list[str]:
    """The lines of a list of a split, as UTF-8, or UTF-16 as Windows writes it. Empty if the file does not exist."""
    if not path.exists():
        return []
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None
    encoding, errors = "utf-8-sig", "surrogateescape"
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding, errors = "utf-16", "replace"
    elif b"\0" in data[:2]:  # without the mark that says so
        encoding, errors = "utf-16-be" if data[0] == 0 else "utf-16-le", "replace"
    lines = re.split(r"[\r\n]+", data.decode(encoding, errors))
    return [spelt(line.strip()) for line in lines if line.strip()]
