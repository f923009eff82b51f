"""Streams: recordings and their words, heard as they are, at other levels, in rooms, or behind a noise gate."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from host_tools.config import AugmentConfig
from host_tools.data.annotations import Word, anything_said, labels_beside, read_also_said, read_labels
from host_tools.data.recordings import recordings
from host_tools.errors import DatasetError
from host_tools.sampling.augment import room_response
from host_tools.sampling.noise_gate import gated
from kws_edge.audio.file import AudioFile

__all__ = ["Condition", "Stream", "find_streams", "samples_of"]


@dataclass(frozen=True)
class Stream:
    """A recording and the words in it."""

    path: Path
    words: tuple[Word, ...] = ()
    labels: Path | None = None
    """The label file that names the words; None if there are none."""

    @property
    def spoken(self) -> bool:
        """Whether the recording has a word that must be detected."""
        return anything_said(self.words)


@dataclass(frozen=True)
class Condition:
    """How the streams are heard."""

    gain_db: float = 0.0
    room: bool = False
    """Whether each stream is heard in a synthetic room of its own."""
    gated: bool = False
    """Whether streams are digitally silent outside labelled words; see :mod:`host_tools.sampling.noise_gate`."""

    def __post_init__(self) -> None:
        if not abs(self.gain_db) <= 200:
            raise DatasetError(f"a gain of {self.gain_db} dB is beyond -200 to 200")

    @property
    def name(self) -> str:
        return f"{self.gain_db:+g} dB" + ", in rooms" * self.room + ", gated" * self.gated

    def takes(self, stream: Stream) -> bool:
        """Whether the stream is heard under this condition. A gated condition takes only streams with words."""
        return not self.gated or stream.spoken


def find_streams(
    paths: Sequence[str | Path],
    *,
    truth: Sequence[str | Path] = (),
    half: str | None = None,
    also_said: str | Path | None = None,
) -> list[Stream]:
    """Recordings, with the label files that belong to them.

    Parameters
    ----------
    paths : sequence of path
        Files and folders. Every recording that :func:`host_tools.data.recordings.recordings` finds in a folder is
        taken.
    truth : sequence of path
        Label files, one for each of `paths`, which must then be files. By default
        :func:`host_tools.data.annotations.labels_beside` finds the labels. A recording without labels has no words.
    half : str, optional
        Half of the folders' recordings to take: ``training`` or ``reporting``.
    also_said : path, optional
        List of optional words of the recordings; see :func:`host_tools.data.annotations.read_also_said`.

    Raises
    ------
    DatasetError
        If a path does not exist, no recording is left, or labels are wrong.
    """
    if truth and len(truth) != len(paths):
        raise DatasetError(f"{len(truth)} label files for {len(paths)} recordings; give one for each, in their order")
    streams = []
    for number, path in enumerate(map(Path, paths)):
        if path.is_dir():
            if truth:
                raise DatasetError(f"{path}: is a folder; --truth goes with files")
            streams += [_stream(p, labels_beside(p)) for p in recordings(path, half).paths]
        elif path.exists():
            streams.append(_stream(path, Path(truth[number]) if truth else labels_beside(path)))
        else:
            raise DatasetError(f"{path}: no such file or folder")
    if not streams:
        raise DatasetError(f"{', '.join(map(str, paths))}: no recordings" + (f" of the {half} half" if half else ""))
    if also_said is not None:
        said = read_also_said(also_said)
        streams = [
            dataclasses.replace(s, words=s.words + said.get(s.path.stem, ()), labels=s.labels or Path(also_said))
            for s in streams
        ]
    return streams


def _stream(path: Path, labels: Path | None) -> Stream:
    return Stream(path, tuple(read_labels(labels)) if labels else (), labels)


def samples_of(stream: Stream, rate: int, condition: Condition, *, seed: int = 0) -> Iterator[NDArray[np.int16]]:
    """Blocks of a recording as it is heard under a condition. The number of samples stays the same.

    Parameters
    ----------
    stream : Stream
    rate : int
        Sample rate of the blocks in Hz.
    condition : Condition
    seed : int
        Seed of the room.

    Yields
    ------
    numpy.ndarray, shape (n,), int16
    """
    with AudioFile(stream.path, sample_rate=rate) as audio:
        blocks = iter(audio)
        if condition.room or condition.gain_db:
            blocks = _played(blocks, rate, condition, seed)
        if condition.gated:
            blocks = gated(blocks, [word for word in stream.words if not word.optional], rate)
        yield from blocks


def _played(
    samples: Iterable[NDArray[np.int16]], rate: int, condition: Condition, seed: int
) -> Iterator[NDArray[np.int16]]:
    blocks: Iterator[NDArray[np.float64]] = (block.astype(np.float64) for block in samples)
    if condition.room:
        rng, ranges = np.random.default_rng(seed), AugmentConfig()
        response = room_response(rng, rate, rng.uniform(*ranges.rt60_ms), rng.uniform(*ranges.direct_db))
        blocks = _convolved(blocks, response)
    gain = 10 ** (condition.gain_db / 20)
    for block in blocks:
        yield np.clip(np.round(block * gain), -32768, 32767).astype(np.int16)


def _convolved(blocks: Iterable[NDArray[np.float64]], response: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    from scipy.signal import oaconvolve

    tail = np.zeros(len(response) - 1)
    for block in blocks:
        whole = oaconvolve(block, response)
        whole[: len(tail)] += tail
        yield whole[: len(block)]
        tail = whole[len(block) :]
