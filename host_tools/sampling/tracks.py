"""Recordings without keywords end to end, from which sequences of any length are drawn, with what is mined in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Tracks"]

_PAUSE_FRAMES = 25
"""Silence between recordings."""
_BEFORE_FRAMES, _AFTER_FRAMES = 10, 60
"""A keyword that is said in a recording may be answered from this long before its start to this long after its end."""
_SEARCHED_FRAMES, _PIECES = 6000, 10
"""Pieces of each group in which a network is searched for mistakes, each time."""
_HARD, _GRID_FRAMES = 0.15, 20
"""A place is hard if a keyword's posterior is at least this; of the places in each such span one is kept."""
_HEARD = (0.8, 1.1)
"""The frames of a piece end near the place where a keyword was heard."""
_PIECE, _PIECE_EDGE, _SOFT_FRAMES = (0.18, 0.75), 0.1, 5
"""Length of a piece as a share of its frames, how far its ends move to softer speech, and the frames of loudness."""
_TRIES = 4
"""Pieces that are drawn until no keyword is said in one."""
_LATEST, _EARLIEST = 0.25, 0.875
"""A sequence that is drawn for a hard place has it in this part of its length."""


@dataclass
class _Group:
    """Recordings of one source, drawn as often as those of any other."""

    levels: np.ndarray
    said: np.ndarray
    """Whether a keyword is said there, so that nobody knows what to answer; shape (frames,), bool."""
    hard: np.ndarray = field(default_factory=lambda: np.empty(0, np.intp))
    """Frames at which a network heard a keyword."""


@dataclass
class Tracks:
    """Recordings without keywords, as raw levels, from which sequences are drawn.

    Parameters
    ----------
    frames : int
        Length of a sequence.
    silence : float
        Raw level of digital silence.
    """

    frames: int
    silence: float
    groups: list[_Group] = field(default_factory=list)

    def add(self, recordings: Sequence[np.ndarray], said: Sequence[Sequence[tuple[float, float]]]) -> int:
        """Add a group of recordings. Returns the number of frames taken.

        Parameters
        ----------
        recordings : sequence of numpy.ndarray, shape (frames, mels)
            Raw levels.
        said : sequence
            Spans of each recording, in frames, in which a keyword is said.
        """
        taken = sum(map(len, recordings))
        if not taken:
            return 0
        length = sum(len(one) + _PAUSE_FRAMES for one in recordings)
        levels = np.full((max(length, self.frames), recordings[0].shape[1]), self.silence, np.float16)
        keyword, at = np.zeros(len(levels), bool), 0
        for recording, spans in zip(recordings, said, strict=True):
            levels[at : at + len(recording)] = recording
            for first, last in spans:
                keyword[max(0, at + int(first) - _BEFORE_FRAMES) : at + int(last) + _AFTER_FRAMES] = True
            at += len(recording) + _PAUSE_FRAMES
        self.groups.append(_Group(levels, keyword))
        return taken

    def __bool__(self) -> bool:
        return bool(self.groups)

    def draw(self, n: int, rng: np.random.Generator, *, mined: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """`n` random sequences; the share `mined` of them has a place that :meth:`mine` found.

        Returns
        -------
        levels : numpy.ndarray, shape (n, frames, mels), float32
        said : numpy.ndarray, shape (n, frames), bool
            Where a keyword is said nevertheless.
        """
        levels = np.empty((n, self.frames, self.groups[0].levels.shape[1] if self else 0), np.float32)
        said = np.zeros((n, self.frames), bool)
        for i, number in enumerate(rng.integers(max(1, len(self.groups)), size=n)):
            group = self.groups[number]
            last = len(group.levels) - self.frames
            start = int(rng.integers(last + 1))
            if len(group.hard) and rng.random() < mined:
                place = group.hard[rng.integers(len(group.hard))] - rng.uniform(_LATEST, _EARLIEST) * self.frames
                start = int(np.clip(place, 0, last))
            levels[i], said[i] = (x[start : start + self.frames] for x in (group.levels, group.said))
        return levels, said

    def cut(
        self, n: int, frames: int, rng: np.random.Generator, *, mined: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """At most `n` pieces of a word or more, cut where the speech is softest. No keyword is said in them.

        Parameters
        ----------
        n : int
        frames : int
            Length of what is drawn, somewhere in which a piece lies.
        rng : numpy.random.Generator
        mined : float
            Share of pieces that end near a place that :meth:`mine` found.

        Returns
        -------
        levels : numpy.ndarray, shape (m, frames, mels), float32
        spans : numpy.ndarray, shape (m, 2), int
            First frame of each piece, and the frame after its last.
        """
        levels, spans = [], []
        groups = [group for group in self.groups if len(group.levels) >= frames]
        for number in rng.integers(max(1, len(groups)), size=n if groups else 0):
            group, last = groups[number], len(groups[number].levels) - frames
            for _ in range(_TRIES):
                start = int(rng.integers(last + 1))
                if len(group.hard) and rng.random() < mined:
                    place = group.hard[rng.integers(len(group.hard))] - rng.uniform(*_HEARD) * frames
                    start = int(np.clip(place, 0, last))
                around = slice(start, start + frames)
                first, end = _piece(group.levels[around], rng)
                if not group.said[around][first:end].any():
                    levels.append(group.levels[around])
                    spans.append((first, end))
                    break
        shape = (-1, frames, self.groups[0].levels.shape[1])
        return np.array(levels, np.float32).reshape(shape), np.array(spans, np.intp).reshape(-1, 2)

    def mine(self, heard: Callable[[np.ndarray], np.ndarray], rng: np.random.Generator) -> int:
        """Search a part of each group for places in which a network hears keywords. Later draws use them.

        Parameters
        ----------
        heard : callable
            Maps raw levels, shape (n, frames, mels), to the largest posterior of a keyword at each answer, shape (n,
            answers).
        rng : numpy.random.Generator

        Returns
        -------
        int
            Number of places.
        """
        for group in self.groups:
            length = min(_SEARCHED_FRAMES, len(group.levels))
            starts = rng.integers(len(group.levels) - length + 1, size=_PIECES)
            pieces = np.full((_PIECES, _SEARCHED_FRAMES, group.levels.shape[1]), self.silence, np.float32)
            pieces[:, :length] = group.levels[starts[:, np.newaxis] + np.arange(length)]
            posteriors = heard(pieces)
            step = _SEARCHED_FRAMES // posteriors.shape[1]
            piece, answer = np.nonzero(posteriors >= _HARD)
            places = starts[piece] + np.minimum(step * answer, length - 1)
            places = places[~group.said[places]]
            _, first = np.unique(places // _GRID_FRAMES, return_index=True)
            group.hard = places[first]
        return sum(len(group.hard) for group in self.groups)


def _piece(levels: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """First frame of a piece of random length, and the frame after its last. Each moves to where it is soft nearby."""
    frames = len(levels)
    loudness = np.convolve(levels.mean(axis=1, dtype=np.float32), np.full(_SOFT_FRAMES, 1 / _SOFT_FRAMES), "same")
    edge, length = round(_PIECE_EDGE * frames), round(rng.uniform(*_PIECE) * frames)
    first = int(rng.integers(frames - length + 1))

    def softest(at: int) -> int:
        high = min(frames - _SOFT_FRAMES, at + edge)
        low = min(max(_SOFT_FRAMES, at - edge), high - 1)
        return low + int(loudness[low:high].argmin())

    start = softest(first)
    return start, max(softest(first + length), start + edge)
