"""Makes long streams of spoken words over backgrounds, with exact truth, to measure detectors on.

A stream is first planned from one seed: which clip follows after which gap. Then it is rendered and written piece by
piece. So memory grows only by some bytes a word.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from tqdm import tqdm

from host_tools.config import AugmentConfig
from host_tools.data.annotations import Word, write_labels
from host_tools.data.dataset import Clip, count
from host_tools.data.features import read_clip
from host_tools.data.sound_files import sound_errors
from host_tools.errors import DatasetError
from host_tools.evaluation.stream_config import StreamConfig
from host_tools.sampling.augment import room_response
from host_tools.sampling.noise_gate import gate_span, word_bounds
from kws_edge.audio.file import AudioFile
from kws_edge.files import write_atomically
from kws_edge.presets import preset

__all__ = ["Summary", "make_stream"]

SPEECH_RMS = 2000.0
"""RMS of words, in int16 samples, if a signal-to-noise ratio is given: -24 dBFS."""
FAINT_RMS = 3.0
"""RMS of the noise without background and ratio: -81 dBFS, as in a quiet room with a quiet microphone."""
_FORMATS = (".flac", ".wav")
_RATE = preset("logmel40").sample_rate
_PIECE_S = 10
_Samples = Generator[NDArray[np.float64], None, None]
_PLAN, _BACKGROUND = 0, 1  # generators with seeds of their own, so that options of one leave the other as it was


@dataclass(frozen=True)
class Summary:
    """Summary of the stream that :func:`make_stream` wrote."""

    file: str
    labels: str
    seconds: float
    words: dict[str, int]
    """How often each word is said."""
    clipped: int
    """Samples that were cut at full scale."""


@dataclass(frozen=True)
class _Slot:
    """A gap, and the clip after it."""

    gap: int
    clip: Clip
    length: int


def _drawn(clips: Sequence[Clip], rng: np.random.Generator) -> Iterator[Clip]:
    """Clips without end: each once in random order, then each again in another order."""
    while True:
        yield from (clips[i] for i in rng.permutation(len(clips)))


def _plan(config: StreamConfig, clips: Sequence[Clip], others: Sequence[Clip]) -> list[_Slot]:
    rng = np.random.default_rng((config.seed, _PLAN))
    seconds, n = config.seconds, config.clips
    if n is None:  # every clip once; if the length is given, more slots than fit
        n = len(clips) if seconds is None else round(seconds / (0.1 + sum(config.gap_s) / 2)) + 1
    if config.others and not others:
        raise DatasetError("there are no clips of other words; leave out --others, or name fewer --words")
    kinds = np.zeros(n + config.others, bool)
    if seconds is None or config.clips is not None:
        kinds[: config.others] = True
        rng.shuffle(kinds)
    else:  # spread evenly among the words that fit, of about a second each
        fit = max(1, min(len(kinds), int(seconds / (1 + sum(config.gap_s) / 2))))
        kinds[rng.permutation(fit)[: config.others]] = True
    sources = {False: _drawn(clips, rng), True: _drawn(others, rng)}
    end = math.inf if seconds is None else round(seconds * _RATE)
    slots: list[_Slot] = []
    lengths: dict[Path, int] = {}
    at = 0
    for kind in kinds:
        clip = next(sources[bool(kind)])
        gap = round(rng.uniform(*config.gap_s) * _RATE)
        if clip.path not in lengths:
            lengths[clip.path] = len(_samples(clip.path))
        length = lengths[clip.path]
        if at + gap + length > end:
            if config.clips is not None:
                raise DatasetError(
                    f"only {len(slots)} of {len(kinds)} words fit into {seconds:g} s; ask for a longer stream, "
                    "for fewer clips, or leave one of both out"
                )
            break
        slots.append(_Slot(gap, clip, length))
        at += gap + length
    return slots


def _samples(path: Path) -> NDArray[np.int16]:
    return read_clip(path, preset("logmel40"))


class _Background:
    """Recordings one after another without end, in random order, or noise if there are no recordings.

    With `level`, each recording and the noise have a mean power of 1.
    """

    def __init__(self, paths: Sequence[Path], rng: np.random.Generator, *, level: bool) -> None:
        self._level, self._rng = level, rng
        self._blocks = self._read(paths) if paths else self._noise()
        self._rest = np.zeros(0)

    def _read(self, paths: Sequence[Path]) -> _Samples:
        while True:
            for i in self._rng.permutation(len(paths)):
                scale = 1 / self._rms(paths[i]) if self._level else 1.0
                with AudioFile(paths[i], sample_rate=_RATE) as audio:
                    yield from (block.astype(np.float64) * scale for block in audio)

    def _rms(self, path: Path) -> float:
        power, n = 0.0, 0
        with AudioFile(path, sample_rate=_RATE) as audio:
            for block in audio:
                power += np.square(block.astype(np.float64)).sum()
                n += len(block)
        return max(1.0, float(np.sqrt(power / n)))

    def _noise(self) -> _Samples:
        while True:
            yield self._rng.standard_normal(_RATE) * (1.0 if self._level else FAINT_RMS)

    def close(self) -> None:
        """Close the recordings."""
        self._blocks.close()

    def take(self, n: int) -> NDArray[np.float64]:
        """The next `n` samples, float64."""
        parts, have = [self._rest], len(self._rest)
        while have < n:
            parts.append(next(self._blocks))
            have += len(parts[-1])
        whole = np.concatenate(parts)
        self._rest = whole[n:].copy()
        return whole[:n]


class _Mixer:
    """Renders a plan to blocks of float64 samples on the int16 scale. `words` grows with the blocks."""

    def __init__(self, config: StreamConfig, slots: Sequence[_Slot], backgrounds: Sequence[Path]) -> None:
        self.words: list[Word] = []
        self._config, self._slots = config, slots
        rng = np.random.default_rng((config.seed, _BACKGROUND))
        self._background = _Background(backgrounds, rng, level=config.snr_db is not None)
        self._tail = np.zeros(0)  # of a room's response, beyond the end of the last block
        self._at = 0
        self._snr_db: float | None = None
        words = sum(slot.gap + slot.length for slot in slots)
        length_s = words / _RATE + config.gap_s[1] if config.seconds is None else config.seconds
        self.n_samples = round(length_s * _RATE)
        """Of the whole stream."""

    def blocks(self) -> Iterator[NDArray[np.float64]]:
        c = self._config
        for number, slot in enumerate(self._slots):
            # From 2 on: the plan and the background have the numbers below.
            rng = np.random.default_rng((c.seed, 2 + number))
            snr_db = None if c.snr_db is None else rng.uniform(*c.snr_db)
            yield from self._gap(slot.gap, snr_db)
            yield self._clip(slot.clip, rng)
        yield from self._gap(self.n_samples - self._at, self._snr_db)
        self._background.close()

    def _gap(self, n: int, snr_db: float | None) -> Iterator[NDArray[np.float64]]:
        """Background alone. Its level changes evenly in decibels to that of the next word."""
        first = snr_db if self._snr_db is None else self._snr_db
        done = 0
        while done < n:
            size = min(n - done, _PIECE_S * _RATE)
            ramp = None
            if snr_db is not None and first is not None:
                ramp = first + (snr_db - first) * np.arange(done, done + size) / n
            mixed = self._mix(np.zeros(0), size, ramp)
            yield mixed if self._config.gate_db is None else np.zeros(size)
            done += size
        self._snr_db = snr_db

    def _clip(self, clip: Clip, rng: np.random.Generator) -> NDArray[np.float64]:
        from scipy.signal import oaconvolve

        c = self._config
        samples = _samples(clip.path)
        start, end = word_bounds(samples, _RATE)
        start_s, end_s = (self._at + start) / _RATE, (self._at + end) / _RATE
        self.words.append(Word(start_s, end_s, clip.word, speaker=clip.speaker))
        speech = samples.astype(np.float64)
        if rng.random() < c.rooms:
            ranges = AugmentConfig()
            room = room_response(rng, _RATE, rng.uniform(*ranges.rt60_ms), rng.uniform(*ranges.direct_db))
            speech = oaconvolve(speech, room)
        if c.snr_db is not None:
            speech *= SPEECH_RMS / max(1.0, np.sqrt(np.square(speech[start:end]).mean()))
        mixed = self._mix(speech, len(samples), self._snr_db)
        if c.gate_db is not None:
            opens, closes = gate_span(samples, _RATE, c.gate_db)
            mixed[:opens] = mixed[closes:] = 0
        return mixed

    def _mix(
        self, speech: NDArray[np.float64], n: int, snr_db: NDArray[np.float64] | float | None
    ) -> NDArray[np.float64]:
        """`n` samples of background and speech. Speech that sounds longer is kept for the next samples."""
        mixed = np.zeros(max(n, len(speech), len(self._tail)))
        mixed[: len(self._tail)] += self._tail
        mixed[: len(speech)] += speech
        self._tail = mixed[n:].copy()
        level = 1.0 if snr_db is None else SPEECH_RMS * 10 ** (-np.asarray(snr_db) / 20)
        self._at += n
        return (mixed[:n] + self._background.take(n) * level) * 10 ** (self._config.gain_db / 20)


def make_stream(
    path: str | Path,
    config: StreamConfig,
    clips: Sequence[Clip],
    *,
    others: Sequence[Clip] = (),
    backgrounds: Sequence[Path] = (),
    progress: Callable[..., Any] = tqdm,
) -> Summary:
    """Write a stream, mono 16-bit, and the truth beside it as CSV.

    The same arguments give the same bytes.

    Parameters
    ----------
    path : path
        Ends in ``.flac`` or ``.wav``. The truth is in the file of the same name that ends in ``.csv``.
    config : StreamConfig
    clips : sequence of Clip
        Clips to draw keywords from.
    others : sequence of Clip
        Clips to draw other words from.
    backgrounds : sequence of path
        Recordings of any sample rate. Without them the background is white noise.

    Raises
    ------
    DatasetError
        If `path` ends otherwise, there are no clips, or one cannot be read.
    WriteError
        If `path` cannot be written.
    AudioError
        If a background cannot be read.
    """
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise DatasetError(
            f"{path}: a stream is written as {' or '.join(_FORMATS)}, not {path.suffix or 'without end'}"
        )
    if not clips and config.clips != 0:
        raise DatasetError("there are no clips to draw keywords from")
    slots = _plan(config, clips, others)
    mixer = _Mixer(config, slots, backgrounds)
    seconds = mixer.n_samples / _RATE
    labels, clipped = path.with_suffix(".csv"), 0

    def write(temporary: str) -> None:
        nonlocal clipped
        with progress(total=mixer.n_samples, desc=path.name, unit="sample", mininterval=0.5, unit_scale=True) as bar:
            clipped = _write(temporary, mixer, _RATE, bar.update)
        write_labels(labels, mixer.words)  # first, so that a stream is never without its labels

    write_atomically(path, write)
    return Summary(str(path), str(labels), seconds, count(word.label for word in mixer.words), clipped)


def _write(path: str, mixer: _Mixer, rate: int, on_samples: Callable[[int], object]) -> int:
    """Write the mixed samples. Returns how many were clipped at full scale."""
    clipped = 0
    with sound_errors(), soundfile.SoundFile(os.fsencode(path), "w", rate, 1, "PCM_16") as file:
        for block in mixer.blocks():
            rounded = np.round(block)
            clipped += int(((rounded < -32768) | (rounded > 32767)).sum())
            file.write(np.clip(rounded, -32768, 32767).astype(np.int16))
            on_samples(len(block))
    return clipped
