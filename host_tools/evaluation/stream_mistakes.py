"""Cuts false accepts, missed words and confusions out of streams, so that you can listen to them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from host_tools.data.sound_files import write_sound
from host_tools.evaluation.mistakes import MOST, TABLE, check_unused, clip_name, posterior_columns, write_table
from host_tools.evaluation.scoring import CONFUSION, EARLY_S, FALSE_ACCEPT, MISS, TOLERANCE_S, Event
from host_tools.evaluation.stream_audio import Condition, Stream, samples_of
from host_tools.evaluation.stream_replay import Track
from host_tools.evaluation.stream_results import Result
from host_tools.locks import locked
from kws_edge.config import DetectorConfig
from kws_edge.model.model import Model
from kws_edge.text import counted

__all__ = ["StreamMistakes"]

_BEFORE_S, _AFTER_S = 1.4, 0.1  # around a false accept's decision: the window that decided and those averaged with it
_AROUND_S = 1.0  # before and after a mistake that is cut out
_KINDS = {
    MISS: ("missed", "missed word"),
    CONFUSION: ("confused", "confusion"),
    FALSE_ACCEPT: ("false accept", "false accept"),
}
"""The name of each kind of mistake in the table, and its noun in counts."""


@dataclass(frozen=True)
class StreamMistakes:
    """The mistakes of a model on streams."""

    model: Model
    config: DetectorConfig
    streams: Sequence[Stream]
    results: Sequence[Result]

    def write_false_accepts(self, folder: Path, *, progress: Callable[..., Any] = tqdm) -> None:
        """Cut out every false accept. Sounds of an earlier report in `folder` are removed."""
        folder.mkdir(exist_ok=True)
        for old in folder.glob("[0-9][0-9][0-9][0-9]_*s_*_*.wav"):
            old.unlink()
        pieces = [
            _Piece(
                result.condition, number, event.time_s - _BEFORE_S, event.time_s + _AFTER_S,
                folder / _false_accept_name(event, result.condition, number),
            )
            for result in self.results
            for number, event in self._events(result)
            if event.kind == FALSE_ACCEPT
        ]  # fmt: skip
        self._cut_out(pieces, progress)

    def write(self, folder: str | Path, *, most: int = MOST, progress: Callable[..., Any] = tqdm) -> str:
        """Cut out missed words, confusions and false accepts with a second around each, and write a table of all.

        The worst of each kind come first: missed words with the smallest posterior, and wrong detections with the
        largest. Posteriors are the detector's averages at the time of the decision. A missed word has the averages of
        the time at which its own posterior is the largest.

        Parameters
        ----------
        folder : path
            New, or empty.
        most : int
            Largest number of sounds of each kind.

        Returns
        -------
        str
            What was written, for people.

        Raises
        ------
        DatasetError
            If the folder holds something.
        WriteError
            If the folder cannot be written.
        """
        check_unused(folder)
        folder = Path(folder)
        columns = ["file", "kind", "stream", "condition", "start_s", "end_s", "said", "heard", "at_s"]
        rows: list[list[object]] = [[*columns, *posterior_columns(self.model.labels)]]
        pieces, counts = [], []
        for kind, (name, noun) in _KINDS.items():
            wrong = sorted(self._mistakes(kind), key=lambda mistake: mistake.rank)
            counts.append(counted(len(wrong), noun))
            for number, one in enumerate(wrong, 1):
                file = ""
                if number <= most:
                    file = one.name(name.replace(" ", "_"), number)
                    pieces.append(one.piece(folder / file))
                rows.append([file, name, *one.row()])
        with locked(folder):
            self._cut_out(pieces, progress)
            write_table(folder, rows)
        return (
            f"wrote {folder}: {', '.join(counts)} in {TABLE}; the sound of {len(pieces)} of them, the worst of each"
            " kind first"
        )

    def _events(self, result: Result) -> Iterator[tuple[int, Event]]:
        """Events of words and detections, each with the number of its stream."""
        numbers = {str(self.streams[number].path): number for number in result.tracks}
        return ((numbers[event.stream], event) for event in result.score.events)

    def _mistakes(self, kind: str) -> Iterator[_Mistake]:
        for result in self.results:
            smoothed = {number: _smoothed(track, self.config) for number, track in result.tracks.items()}
            for number, event in self._events(result):
                if event.kind == kind:
                    yield _mistake(event, result.condition, number, result.tracks[number], smoothed[number])

    def _cut_out(self, pieces: Iterable[_Piece], progress: Callable[..., Any]) -> None:
        """Write pieces of the streams as they were heard. Each stream is read once."""
        rate = self.model.frontend_config.sample_rate
        pieces = sorted(pieces, key=lambda piece: (piece.condition.name, piece.number, piece.start_s))
        groups = [list(group) for _, group in itertools.groupby(pieces, lambda p: (p.condition, p.number))]
        for group in progress(groups, desc="cutting out", unit="stream", mininterval=0.5, disable=not groups):
            first = group[0]
            blocks = samples_of(self.streams[first.number], rate, first.condition, seed=first.number)
            for piece, samples in zip(group, _cut(blocks, group, rate), strict=True):
                write_sound(piece.path, samples, rate)


@dataclass(frozen=True)
class _Piece:
    """A piece of a stream that is written to a file."""

    condition: Condition
    number: int
    """Number of the stream."""
    start_s: float
    end_s: float
    path: Path


@dataclass(frozen=True)
class _Mistake:
    """A word that was missed, or a detection that is wrong."""

    event: Event
    condition: Condition
    number: int
    """Number of the stream."""
    at_s: float
    posteriors: NDArray[np.float32]
    """The detector's averages of all labels at `at_s`."""
    rank: float
    """A lower rank is worse."""

    def name(self, kind: str, number: int) -> str:
        """Name of the mistake's file."""
        event = self.event
        said, heard = event.said or "", f"as_{event.keyword}" if event.keyword else ""
        what = filter(None, (said, heard, f"{abs(self.rank):.2f}"))
        where = (Path(event.stream).stem[:100], f"{event.time_s:.2f}s{_how(self.condition)}")
        return clip_name(kind, f"{number:04}", *what, *where)

    def piece(self, path: Path) -> _Piece:
        """The piece of the stream with the mistake and the time around it."""
        start_s, end_s = self.event.start_s - _AROUND_S, self.event.time_s + _AROUND_S
        return _Piece(self.condition, self.number, start_s, end_s, path)

    def row(self) -> list[object]:
        """The mistake's row of the table, from the column ``stream`` on."""
        e = self.event
        where = [e.stream, self.condition.name, e.start_s, e.time_s]
        return [*where, e.said, e.keyword, self.at_s, *map(float, self.posteriors)]


def _smoothed(track: Track, config: DetectorConfig) -> NDArray[np.float32]:
    """The detector's averages that end at each window, in the shape of the posteriors."""
    n = track.detector(config).smoothing_steps
    total = np.cumsum(track.posteriors(), axis=0, dtype=np.float64)
    total[n:] -= total[:-n].copy()
    total[: n - 1] = 0
    return (total / n).astype(np.float32)


def _mistake(event: Event, condition: Condition, number: int, track: Track, smoothed: NDArray[np.float32]) -> _Mistake:
    times = track.times_s
    if event.score is not None:
        at = min(int(np.searchsorted(times, event.time_s - 1e-6)), len(times) - 1)
        return _Mistake(event, condition, number, event.time_s, smoothed[at], -event.score)
    label = track.labels.index(str(event.said))
    span = np.flatnonzero((times >= event.start_s + EARLY_S) & (times <= event.time_s + TOLERANCE_S))
    if not len(span):
        return _Mistake(event, condition, number, event.time_s, np.zeros_like(smoothed[0]), 0.0)
    at = int(span[smoothed[span, label].argmax()])
    return _Mistake(event, condition, number, float(times[at]), smoothed[at], float(smoothed[at, label]))


def _how(condition: Condition) -> str:
    """The condition as a part of a file's name, empty for the plain condition."""
    how = f"_{condition.gain_db:+g}dB" + "_room" * condition.room + "_gated" * condition.gated
    return "" if condition == Condition() else how


def _false_accept_name(event: Event, condition: Condition, number: int) -> str:
    """A name of source, time, keyword and score. The number tells streams of the same name apart."""
    source, time = Path(event.stream).stem[:100], f"{event.time_s:.2f}s"
    return clip_name(f"{number:04}", source, time, str(event.keyword), f"{event.score:.2f}{_how(condition)}")


def _cut(blocks: Iterator[NDArray[np.int16]], pieces: Sequence[_Piece], rate: int) -> Iterator[NDArray[np.int16]]:
    """The samples of pieces of a stream. The pieces are in order of their starts."""
    kept, start = np.zeros(0, np.int16), 0  # `start` is the number of the first sample that is kept
    for piece in pieces:
        first, last = max(0, round(piece.start_s * rate)), round(piece.end_s * rate)
        while start + len(kept) < last and (block := next(blocks, None)) is not None:
            kept = np.concatenate([kept, block])
            drop = min(max(0, first - start), len(kept))
            kept, start = kept[drop:], start + drop
        yield kept[max(0, first - start) : last - start]
