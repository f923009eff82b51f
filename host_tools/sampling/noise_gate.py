"""Finds the word in a clip, and simulates a noise gate that lets only words through.

Conference software, USB microphones and browsers replace pauses by digital silence. The same gate works on the samples
of streams and on the band powers of training.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from host_tools.data.annotations import Word

__all__ = ["HOLD_MS", "WORD_DB", "gate_power", "gate_span", "gated", "word_bounds", "word_frames"]

HOLD_MS = 60.0
"""How long a gate is open before a word and after it."""
WORD_DB = 22.0
"""A word ends where its power falls this far below its peak."""
_FLOOR_DB = 6.0
_HOP_MS, _SMOOTH_HOPS, _BRIDGE_MS = 10, 3, 200
_PIECE_SHARE = 0.1


def word_frames(power: np.ndarray, hop_ms: float) -> tuple[int, int]:
    """First frame of the word, and the frame after its last, from smoothed powers; see :func:`word_bounds`.

    Parameters
    ----------
    power : numpy.ndarray, shape (frames,)
    hop_ms : float
        Time from frame to frame.
    """
    noise = np.percentile(power, 10) * 10 ** (_FLOOR_DB / 10)
    threshold = min(max(power.max() * 10 ** (-WORD_DB / 10), noise), power.max() / 2)
    above = np.flatnonzero(power >= threshold)
    pieces = np.split(above, np.flatnonzero(np.diff(above) > _BRIDGE_MS / hop_ms) + 1)
    energy = np.array([power[piece].sum() for piece in pieces])
    word = np.concatenate([pieces[i] for i in np.flatnonzero(energy >= _PIECE_SHARE * energy.max())])
    return int(word[0]), int(word[-1]) + 1


def word_bounds(samples: np.ndarray, sample_rate: int) -> tuple[int, int]:
    """First sample of the word in a clip, and the sample after its last.

    The power in 10 ms is averaged over 30 ms. In the word it is at most 22 dB under its peak (:data:`WORD_DB`). It is
    also 6 dB above the clip's noise, which is taken to be the first decile. Pauses of up to 200 ms belong to the word,
    such as the closure in "eight". A piece further away belongs to the word if it has at least a tenth of the strongest
    piece's energy. A late release of the p in "up" has it, a click has not.

    Parameters
    ----------
    samples : numpy.ndarray, shape (n,), int16 or float64
    sample_rate : int
        In Hz.
    """
    hop = _HOP_MS * sample_rate // 1000
    n = len(samples) // hop
    if n < _SMOOTH_HOPS:
        return 0, len(samples)
    power = np.square(samples[: n * hop].astype(np.float64)).reshape(n, hop).mean(axis=1)
    first, last = word_frames(np.convolve(power, np.full(_SMOOTH_HOPS, 1 / _SMOOTH_HOPS), "same"), _HOP_MS)
    return first * hop, last * hop


def gate_span(samples: np.ndarray, sample_rate: int, edge_db: float, *, hold_ms: float = HOLD_MS) -> tuple[int, int]:
    """First sample that a noise gate lets through of a clip, and the sample after the last.

    The gate is open from the first 10 ms whose power is less than `edge_db` below the loudest to the last, and
    `hold_ms` before and after. Unlike :func:`word_bounds` it knows nothing of words, so it cuts off what is faint.

    Parameters
    ----------
    samples : numpy.ndarray, shape (n,), int16 or float64
    sample_rate : int
        In Hz.
    edge_db : float
    hold_ms : float
    """
    hop, hold = _HOP_MS * sample_rate // 1000, round(hold_ms * sample_rate / 1000)
    n = len(samples) // hop
    power = np.square(samples[: n * hop].astype(np.float64)).reshape(n, hop).mean(axis=1)
    loud = np.flatnonzero(power > power.max(initial=0) * 10 ** (-edge_db / 10))
    if not len(loud):
        return 0, len(samples)
    return max(0, int(loud[0]) * hop - hold), min(len(samples), (int(loud[-1]) + 1) * hop + hold)


def gated(
    blocks: Iterable[np.ndarray], words: Sequence[Word], sample_rate: int, *, hold_ms: float = HOLD_MS
) -> Iterator[np.ndarray]:
    """A stream in which only words sound. Samples that are `hold_ms` or more from every word are zero.

    Parameters
    ----------
    blocks : iterable of numpy.ndarray, shape (n,)
        The stream. It is not changed.
    words : sequence of Word
    sample_rate : int
        In Hz.
    hold_ms : float

    Yields
    ------
    numpy.ndarray, shape (n,), of the block's dtype
    """
    hold_s = hold_ms / 1000
    spans = sorted((round((w.start_s - hold_s) * sample_rate), round((w.end_s + hold_s) * sample_rate)) for w in words)
    at, next_span = 0, 0
    for block in blocks:
        out = np.zeros_like(block)
        for start, end in spans[next_span:]:
            if start >= at + len(block):
                break
            here = slice(max(0, start - at), max(0, end - at))
            out[here] = block[here]
        at += len(block)
        while next_span < len(spans) and spans[next_span][1] <= at:
            next_span += 1
        yield out


def gate_power(power: np.ndarray, word: np.ndarray, hold_ms: np.ndarray, hop_ms: float) -> None:
    """Set frames outside of each example's word to digital silence, in place.

    Parameters
    ----------
    power : numpy.ndarray, shape (n, frames, mels)
        Band powers.
    word : numpy.ndarray, shape (n, frames)
        Power of each frame, before noise is added. It is used to find the word.
    hold_ms : numpy.ndarray, shape (n,)
        How long the gate is open before the word and after it.
    hop_ms : float
        Time from frame to frame.
    """
    frame = np.arange(power.shape[1])
    for one, loudness, hold in zip(power, word, hold_ms / hop_ms, strict=True):
        first, last = word_frames(loudness, hop_ms)
        one[(frame < first - hold) | (frame >= last + hold)] = 0
