"""Windows of features in shards: as many clips as memory shall hold, others in every epoch.

The clips of each label are cut into pieces that follow each other in a shard. Each pass over the corpus takes the
pieces in another random order, and each epoch goes on where the one before it stopped. While one epoch trains, a thread
reads the next. The seed and the epoch fix a window, so a continued run trains on the same clips.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from host_tools.data.label_sets import label_name
from host_tools.shards.shard import Shard
from host_tools.shards.stored import ShardList
from kws_edge.labels import UNKNOWN

__all__ = ["Window", "Windows"]

_PIECE = 32
"""Clips that are read at once. A disk or a network reads 250 kB about as fast as one clip."""


class Window(NamedTuple):
    """Clips that are in memory."""

    levels: NDArray[np.float16]
    """Raw levels, shape (n, frames, mels)."""
    words: NDArray[np.object_]
    """The word of each, shape (n,)."""


@dataclass
class _Group:
    """The clips of one label."""

    pieces: NDArray[np.int64]
    """Number of the shard, first clip and the clip after the last one of each piece, shape (k, 3)."""
    take: int = 0
    """Clips of a window."""

    @property
    def total(self) -> int:
        return int((self.pieces[:, 2] - self.pieces[:, 1]).sum())

    def chosen(self, epoch: int, seed: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
        """The pieces of an epoch's window. The first and the last may be parts of pieces."""
        if self.take == self.total:
            yield from map(tuple, self.pieces.tolist())
            return
        at, end = epoch * self.take, (epoch + 1) * self.take
        while at < end:
            turn, offset = divmod(at, self.total)
            pieces = self.pieces[np.random.default_rng((*seed, turn)).permutation(len(self.pieces))]
            ends = np.cumsum(pieces[:, 2] - pieces[:, 1])
            upto = min(self.total, offset + end - at)
            first, last = np.searchsorted(ends, (offset, upto - 1), "right")
            for number in range(first, last + 1):
                shard, start, stop = pieces[number].tolist()
                before = int(ends[number]) - (stop - start)
                yield shard, start + max(0, offset - before), stop - max(0, int(ends[number]) - upto)
            at += upto - offset


class Windows:
    """The windows of one part of the split.

    Half of a window holds keywords, all equally many as far as there are so many. Other words have the other half.
    A label with few clips has all of them in every window.

    Parameters
    ----------
    folder : path
        Folder of the shards.
    shards : ShardList
    labels : sequence of str
    part : str
        Part of the split.
    size : int
        Clips in a window.
    seed : int

    Raises
    ------
    DatasetError
        If a shard is missing or damaged, or a word is no label and the labels have no ``unknown``.
    """

    def __init__(
        self, folder: Path, shards: ShardList, labels: Sequence[str], *, part: str, size: int, seed: int
    ) -> None:
        self._paths = [folder / one.file for one in shards.shards]
        self._shape = (shards.frontend.n_frames, shards.frontend.n_mels)
        self._seed = seed
        self.totals = dict(shards.words.get(part, {}))
        """Number of clips by word, in the whole part."""
        self._groups = self._cut(part, {word: label_name(labels, word) for word in self.totals})
        _share_out(self._groups, size)
        self.whole = all(group.take == group.total for group in self._groups.values())
        """Whether a window holds the whole part."""
        self._pool = ThreadPoolExecutor(1)
        self._next: tuple[int, Future[Window]] | None = None

    def _cut(self, part: str, labels: dict[str, str]) -> dict[str, _Group]:
        """The pieces of each label."""
        pieces: dict[str, list[list[int]]] = {}
        for number, path in enumerate(self._paths):
            for split, word, start, stop in Shard.open(path, self._shape).runs:
                if split == part:
                    _add_run(pieces.setdefault(labels[word], []), number, start, stop)
        return {label: _Group(np.array(found, np.int64)) for label, found in sorted(pieces.items())}

    def at(self, epoch: int) -> Window:
        """The window of an epoch. Afterwards a thread reads the next one.

        Raises
        ------
        DatasetError
            If a shard cannot be read.
        """
        if self._next is None or self._next[0] != epoch:
            self._next = epoch, self._pool.submit(self._read, epoch)
        window = self._next[1].result()
        self._next = None if self.whole else (epoch + 1, self._pool.submit(self._read, epoch + 1))
        return window

    def _read(self, epoch: int) -> Window:
        chosen = sorted(
            piece
            for number, group in enumerate(self._groups.values())
            for piece in group.chosen(epoch, (self._seed, number))
        )
        n = sum(stop - start for _, start, stop in chosen)
        window, at = Window(np.empty((n, *self._shape), "<f2"), np.empty(n, object)), 0
        for number, pieces in groupby(chosen, key=lambda piece: piece[0]):
            shard = Shard.open(self._paths[number], self._shape)
            starts = [run.start for run in shard.runs]
            words = np.array([run.word for run in shard.runs], object)
            with open(shard.path, "rb", buffering=0) as file:
                for _, start, stop in pieces:
                    to = at + stop - start
                    shard.read_into(file, start, window.levels[at:to])
                    window.words[at:to] = words[np.searchsorted(starts, np.arange(start, stop), "right") - 1]
                    at = to
        return window


def _add_run(pieces: list[list[int]], shard: int, start: int, stop: int) -> None:
    """Add clips that follow each other. They lengthen the last piece if they follow it."""
    if pieces and pieces[-1][0] == shard and pieces[-1][2] == start:
        more = min(stop - start, _PIECE - (pieces[-1][2] - pieces[-1][1]))
        pieces[-1][2] += more
        start += more
    pieces += [[shard, at, min(at + _PIECE, stop)] for at in range(start, stop, _PIECE)]


def _share_out(groups: dict[str, _Group], size: int) -> None:
    """Set how many clips of each group a window takes."""
    others = groups.get(UNKNOWN)
    keywords = sorted((group for group in groups.values() if group is not others), key=lambda group: group.total)
    kept = min(others.total, size // 2 if keywords else size) if others else 0
    left = size - kept
    for i, group in enumerate(keywords):
        group.take = min(group.total, max(1, left // (len(keywords) - i)))
        left -= group.take
    if others:
        others.take = min(others.total, max(1, kept + left))
