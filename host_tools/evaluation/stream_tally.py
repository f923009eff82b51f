"""Counts false accepts and missed words of a detector, by fold, on streams that were heard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from host_tools.data.recordings import group_of
from host_tools.evaluation.scoring import DUPLICATE, FALSE_ACCEPT, HIT, MISS, Event, Score
from host_tools.evaluation.stream_audio import Stream
from host_tools.evaluation.stream_replay import Track, score_replayed
from kws_edge.config import DetectorConfig
from kws_edge.labels import is_keyword

__all__ = ["FOLDS", "HeardStreams", "Tally", "places"]

FOLDS = 5
_PLACE_S = 1.0
_Pair = tuple[Stream, Track]


class Tally(NamedTuple):
    """Counts of a detector on the streams, by fold."""

    places: NDArray[np.int64]
    """Places of false accepts on streams without words, each counted once; shape (folds,)."""
    words: NDArray[np.int64]
    """Words said, under all conditions; shape (folds,)."""
    missed: NDArray[np.int64]
    """Words missed, under all conditions; shape (folds,)."""
    duplicates: NDArray[np.int64]
    """Words heard twice; shape (folds,)."""

    def of(self, folds: NDArray[np.bool_]) -> Tally:
        """The tally of some folds, given by a mask of shape (folds,), bool."""
        return Tally(*(values[folds] for values in self))

    @property
    def errors(self) -> int:
        """Words that were missed or heard twice."""
        return int(self.missed.sum() + self.duplicates.sum())


def places(scores: Sequence[Score]) -> list[tuple[str, float]]:
    """Stream and time of each false accept. Those under different conditions within a second count as one.

    Parameters
    ----------
    scores : sequence of Score
        Scores of the same streams, one for each condition.
    """
    times = sorted(
        (event.stream, event.time_s, condition)
        for condition, score in enumerate(scores)
        for event in score.of_kind(FALSE_ACCEPT)
    )
    found: list[tuple[str, float]] = []
    heard_under: set[int] = set()
    for stream, time_s, condition in times:
        near = found and found[-1][0] == stream and time_s - found[-1][1] <= _PLACE_S
        if not near or condition in heard_under:
            found.append((stream, time_s))
            heard_under = set()
        heard_under.add(condition)
    return found


class HeardStreams:
    """Streams that were heard, and the results of detectors on them.

    Streams without words are cut into folds of equal length. They are sorted by speaker, as far as names tell. Words
    are cut into folds of equal number, in the order in which they are said.

    Parameters
    ----------
    spoken : sequence of (Stream, Track)
        Streams with words, under all conditions.
    quiet : sequence of sequences of (Stream, Track)
        Streams without words, one sequence for each condition.
    """

    def __init__(self, spoken: Sequence[_Pair], quiet: Sequence[Sequence[_Pair]]) -> None:
        self._spoken, self._quiet = spoken, quiet
        self._known: dict[str, Tally] = {}
        by_speaker = sorted(quiet[0], key=lambda pair: (group_of(pair[0].path), pair[0].path))
        ends = np.cumsum([0.0, *(track.duration_s for _, track in by_speaker)])
        self._starts = {str(stream.path): start for (stream, _), start in zip(by_speaker, ends[:-1], strict=True)}
        self._length_s = float(ends[-1])
        keywords = [label for label in spoken[0][1].labels if is_keyword(label)]
        said = {
            str(stream.path): sorted(w.end_s for w in stream.words if not w.optional and w.label in keywords)
            for stream, _ in spoken
        }
        self.distinct = sum(map(len, said.values()))
        """Words that are said."""
        numbers = np.cumsum([0, *map(len, said.values())])
        self._said = {name: (start, times) for start, (name, times) in zip(numbers[:-1], said.items(), strict=True)}

    def on_words(self, config: DetectorConfig) -> Score:
        """Score of a detector on the streams with words, under all conditions."""
        return _score(self._spoken, config)

    def on_quiet(self, config: DetectorConfig) -> tuple[Score, ...]:
        """Scores on the streams without words, one for each condition."""
        return tuple(_score(part, config) for part in self._quiet)

    def tally(self, config: DetectorConfig) -> Tally:
        """The tally of a detector, which is remembered."""
        key = repr(config)
        if key not in self._known:
            score = self.on_words(config)
            missed, hit, twice = (self._words(score.of_kind(kind)) for kind in (MISS, HIT, DUPLICATE))
            at = [(self._starts[stream] + time_s) / self._length_s for stream, time_s in places(self.on_quiet(config))]
            self._known[key] = Tally(_folded(at), missed + hit, missed, twice)
        return self._known[key]

    def _words(self, events: Sequence[Event]) -> NDArray[np.int64]:
        """Number of events about words, by fold."""
        at = []
        for event in events:
            start, ends = self._said[event.stream]
            end_s = event.time_s - (event.delay_s or 0.0) + 1e-6
            at.append((start + max(1, np.searchsorted(ends, end_s)) - 0.5) / max(1, self.distinct))
        return _folded(at)


def _score(pairs: Sequence[_Pair], config: DetectorConfig) -> Score:
    return score_replayed([stream for stream, _ in pairs], [track for _, track in pairs], config)


def _folded(at: Sequence[float]) -> NDArray[np.int64]:
    """How many of these positions, from 0 to 1, lie in each fold."""
    return np.histogram(at, bins=FOLDS, range=(0, 1 + 1e-9))[0]
