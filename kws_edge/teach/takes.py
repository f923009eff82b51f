"""Recordings of a word to learn: find the word in them, and refuse those that cannot teach it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kws_edge.errors import AudioError
from kws_edge.features.frontend import to_int16

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FRAME_MS", "SHIFTS", "Take", "TakeError", "augmented", "find_word", "frame_levels"]

FRAME_MS = 20
"""Sound is looked at in frames of this length."""
_SILENT_DB = -55.0
"""Level of a word's loudest part, in dB of full scale, below which nothing was said."""
_CONTRAST_DB = 12.0
"""A word stands out of the quiet before and after it by this much."""
_SPEECH_DB, _ABOVE_FLOOR_DB = 26.0, 7.0
"""A frame is of the word if it is at most this much below the loudest, and at least that much above the noise."""
_EDGE_DB = 14.0
"""A recording that begins or ends less than this below the loudest part cuts the word off."""
_PAUSE_S = 0.24
"""Longest silence within a word, such as before the k of "lookup"."""
_SHORTEST_S = 0.1
_ENDLESS = 2
"""A sound that goes on for so many times the longest word is none."""
_FAINT_DB = 15.0
"""A part of a recording that is this much weaker than the main one is a breath or a click."""
_CLIPPED = 0.002
"""Share of a word's samples at an end of the range."""
_SHIFTS_MS = (-100, -50, 0, 50, 100)
SHIFTS = len(_SHIFTS_MS)
"""The first clips of :func:`augmented` hold just the word, earlier and later."""
_NOISE_DB = (12.0, 20.0)
_QUIETER_DB = 12.0


class TakeError(AudioError):
    """A recording that cannot teach a word. The message says why, and what to do.

    Examples
    --------
    >>> import numpy as np
    >>> from kws_edge import find_word
    >>> find_word(np.zeros(16000, np.int16), 16000)
    Traceback (most recent call last):
        ...
    kws_edge.teach.takes.TakeError: silence: nothing is louder than -100 dBFS; speak up, or turn the microphone up
    """


@dataclass(frozen=True)
class Take:
    """A recording of one word; see :func:`kws_edge.find_word`.

    Examples
    --------
    >>> import numpy as np
    >>> from kws_edge import Take
    >>> take = Take(np.arange(1000, dtype=np.int16), start=400, end=600, level_db=-20.0)
    >>> take.window(4), take.window(4, shift=1)
    (array([498, 499, 500, 501], dtype=int16), array([497, 498, 499, 500], dtype=int16))
    """

    samples: NDArray[np.int16]
    """The whole recording."""
    start: int
    """First sample of the word."""
    end: int
    """Sample after the last one of the word."""
    level_db: float
    """Level of its loudest part, dB of full scale."""

    def window(self, length: int, shift: int = 0) -> NDArray[np.int16]:
        """`length` samples with the word in the middle, which `shift` moves to the right; zeros where nothing was."""
        start = (self.start + self.end - length) // 2 - shift
        out = np.zeros(length, np.int16)
        first, last = max(0, start), min(len(self.samples), start + length)
        out[first - start : last - start] = self.samples[first:last]
        return out


def frame_levels(samples: NDArray[np.int16], length: int) -> NDArray[np.float64]:
    """Levels of the whole frames of `length` samples, without their offsets; shape (frames,), dB of full scale."""
    frames = samples[: len(samples) // length * length].reshape(-1, length).astype(np.float64)
    levels: NDArray[np.float64] = 10 * np.log10(frames.var(axis=1) / 32768**2 + 1e-10)
    return levels


def find_word(samples: NDArray[Any], rate: int, longest_s: float = 1.0) -> Take:
    """Find the one word in a recording.

    Parameters
    ----------
    samples : numpy.ndarray, shape (n,), int16 or floating in [-1, 1)
    rate : int
        Hz.
    longest_s : float
        The longest word that the model hears whole.

    Raises
    ------
    TakeError
        If there is only silence or noise, if the word is clipped, cut off, too short or too long, or if there are
        several words.

    Examples
    --------
    >>> import numpy as np
    >>> from kws_edge.teach.takes import find_word
    >>> word = 8000 * np.sin(np.arange(8000) * 0.2) * np.hanning(8000)
    >>> take = find_word(np.pad(word, 4000).astype(np.int16), 16000)
    >>> 4000 < take.start < take.end < 12000
    True
    """
    samples = to_int16(samples)
    frame = rate * FRAME_MS // 1000
    levels = frame_levels(samples, frame)
    if len(levels) * FRAME_MS < 1000 * _SHORTEST_S:
        raise TakeError(f"only {len(samples) / rate:.2f} s of sound; record the whole word")
    loudest = float(np.sort(levels)[-3:].mean())
    if loudest < _SILENT_DB:
        raise TakeError(f"silence: nothing is louder than {loudest:.0f} dBFS; speak up, or turn the microphone up")
    floor = float(np.quantile(levels, 0.1))
    if loudest - floor < _CONTRAST_DB:
        raise TakeError(
            f"noise only: nothing stands out by {_CONTRAST_DB:g} dB; say the word with quiet before and after it"
        )
    spoken = levels > max(loudest - _SPEECH_DB, min(floor + _ABOVE_FLOOR_DB, loudest - _CONTRAST_DB))
    parts = _parts(spoken, levels, round(1000 * _PAUSE_S / FRAME_MS))
    first, last = parts[0][0], parts[-1][1]
    take = Take(samples, first * frame, last * frame, loudest)
    seconds = (last - first) * FRAME_MS / 1000
    if seconds > _ENDLESS * longest_s and (first == 0 or last == len(levels)):
        raise TakeError(f"noise only: a sound of {seconds:.1f} s that does not begin or end; say the word in quiet")
    _check_level(take, levels, loudest)
    if len(parts) > 1:
        raise TakeError(f"{len(parts)} words with a pause between them; say the word once in each recording")
    if seconds < _SHORTEST_S:
        raise TakeError(f"only a click of {1000 * seconds:.0f} ms; say the whole word")
    if seconds > longest_s:
        raise TakeError(f"the word takes {seconds:.1f} s, but the model hears {longest_s:g} s; choose a shorter one")
    return take


def _parts(spoken: NDArray[np.bool_], levels: NDArray[np.float64], pause: int) -> list[tuple[int, int]]:
    """First frame and frame after the last one of each part of speech, without the faint ones."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], spoken, [False]]).astype(np.int8)))
    parts: list[list[int]] = []
    for start, end in edges.reshape(-1, 2).tolist():
        if parts and start - parts[-1][1] < pause:
            parts[-1][1] = end
        else:
            parts.append([start, end])
    energy = [10 * np.log10((10 ** (levels[start:end] / 10)).sum()) for start, end in parts]
    return [(start, end) for (start, end), e in zip(parts, energy, strict=True) if e > max(energy) - _FAINT_DB]


def _check_level(take: Take, levels: NDArray[np.float64], loudest: float) -> None:
    """Refuse a word that is clipped, or that the recording does not hold whole."""
    word = take.samples[take.start : take.end]
    clipped = float(np.mean((word <= -32700) | (word >= 32700)))
    if clipped > _CLIPPED:
        raise TakeError(
            f"clipped: {100 * clipped:.1f} % of the word is at the end of the range; turn the microphone down, or "
            "speak from further away"
        )
    for where, level in (("start", levels[0]), ("end", levels[-1])):
        if level > loudest - _EDGE_DB:
            raise TakeError(f"cut off at the {where}; leave some quiet before and after the word")


def augmented(take: Take, length: int, rate: int, rng: np.random.Generator) -> Iterator[NDArray[np.int16]]:
    """Yield clips of `length` samples as the word may be heard: earlier and later, quieter, and in noise."""
    for shift in _SHIFTS_MS:
        yield take.window(length, shift * rate // 1000)
    clean = take.window(length).astype(np.float64)
    yield (clean * 10 ** (-_QUIETER_DB / 20)).astype(np.int16)
    for snr_db in _NOISE_DB:
        noise = rng.standard_normal(length) * 32768 * 10 ** ((take.level_db - snr_db) / 20)
        yield np.clip(clean + noise, -32768, 32767).astype(np.int16)
