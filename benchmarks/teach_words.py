"""The words that :mod:`benchmarks.teach` teaches, and the recordings of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from host_tools.data.dataset import index_clips

__all__ = ["WORDS", "Clips", "independent", "speech_commands"]

_HELD_OUT = ("bed", "cat", "happy", "eight", "five", "one", "zero")
_INDEPENDENT = {
    ("a", "R C B"): (186, 285),
    ("f", "dracarys"): (26, 147),
    ("f", "hadouken"): (190, 324),
    ("f", "joke"): (390, 446),
    ("f", "trick or treat"): (447, 530),
}
"""First and last number of a word's files among the other words of a collection, which name no words themselves.

The files are in the order of the collection's repository, which has a folder for each word.
"""
_MOST, _OTHERS = 80, 600


class Clips(NamedTuple):
    """Paths of recordings."""

    takes: dict[str, list[Path]]
    """Of each word, to choose takes from."""
    tests: dict[str, list[Path]]
    """Of each word, to test with. No take is among them."""
    others: list[Path]
    """Of other words, to test with."""
    train: list[Path]
    """Of further other words, which train the linear head."""


def speech_commands(data: Path, rng: np.random.Generator) -> Clips:
    """Seven words of Speech Commands. Takes and tests are of different, random people."""
    by_word: dict[str, list[Path]] = {}
    for clip in index_clips(data / "speech_commands").clips:
        by_word.setdefault(clip.word, []).append(clip.path)
    words = {word: [by_word[word][i] for i in rng.permutation(len(by_word[word]))[: 2 * _MOST]] for word in _HELD_OUT}
    other = [path for word in sorted(set(by_word) - set(_HELD_OUT)) for path in by_word[word][:60]]
    other = [other[i] for i in rng.permutation(len(other))]
    return Clips(
        {word: paths[:_MOST] for word, paths in words.items()},
        {word: paths[_MOST:] for word, paths in words.items()},
        other[: len(other) // 2][:_OTHERS],
        other[len(other) // 2 :][:_OTHERS],
    )


def independent(data: Path, rng: np.random.Generator) -> Clips:
    """Five words of other people, microphones and rooms. Takes and tests may be of one person, as a user's are."""
    folder = data / "independent"
    paths = {collection: sorted((folder / "other_words" / collection / "other").iterdir()) for collection in ("a", "f")}
    takes, tests = {}, {}
    for (collection, word), (first, last) in _INDEPENDENT.items():
        some = [paths[collection][i] for i in first - 1 + rng.permutation(last - first + 1)]
        takes[word], tests[word] = some[: len(some) // 2], some[len(some) // 2 :][:_MOST]
    taught = {path for some in (*takes.values(), *tests.values()) for path in some}
    other = sorted(path for path in folder.rglob("*.wav") if path not in taught)
    chosen = [other[i] for i in rng.permutation(len(other))[:_OTHERS]]
    return Clips(takes, tests, chosen, speech_commands(data, rng).train)


WORDS: dict[str, Callable[[Path, np.random.Generator], Clips]] = {
    "speech_commands": speech_commands,
    "independent": independent,
}
"""The sets of words, by name."""
