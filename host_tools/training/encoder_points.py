"""Measures how many false accepts an hour the words taught to an encoder have, at which score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from host_tools.errors import TrainingError
from kws_edge.model.model import Model
from kws_edge.teach.encoder import Rivals, normalised
from kws_edge.teach.listener import BUDGET, EVERY_S
from kws_edge.text import counted

__all__ = ["STEP_MS", "points", "some"]

STEP_MS = 100.0
"""Time from one window of running speech to the next."""
_RATES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_NO_PEAK = -3.0
"""Scores of streams below this are no peaks."""
_SHOTS, _MEASURED = 10, 60
"""Clips and number of the words whose false accepts are measured."""
_APART_S = 1.0
"""Peaks nearer to each other than this are one false accept."""


def some(rows: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """At most `n` of the rows, at random, in their order."""
    return rows[np.sort(rng.choice(len(rows), min(n, len(rows)), replace=False))]


def points(
    words: np.ndarray,
    labels: np.ndarray,
    streams: Sequence[np.ndarray],
    rivals: Rivals,
    model: Model,
    rng: np.random.Generator,
) -> list[list[float]]:
    """Pairs of false accepts an hour and the score that has them, by words on streams of speech.

    The speech says some of the words itself. These count, too, so the scores are rather too high than too low.

    Parameters
    ----------
    words : numpy.ndarray, shape (n, dimensions), float32
        Embeddings of single words, of length 1.
    labels : numpy.ndarray, shape (n,)
        The words.
    streams : sequence of numpy.ndarray, shape (m, dimensions), float32
        Embeddings of recordings of running speech, one each `STEP_MS`.
    rivals : Rivals
    model : Model
    rng : numpy.random.Generator
        Chooses words and clips.

    Raises
    ------
    TrainingError
        If the words or the speech are too few to tell the budget of :class:`kws_edge.teach.listener.TaughtListener`.
    """
    hop_s = model.hop_frames(STEP_MS) * model.frontend_config.hop_ms / 1000
    every = round(EVERY_S / hop_s)
    streams = [stream[::every] for stream in streams]
    apart = round(_APART_S / (every * hop_s))
    known, counts = np.unique(labels, return_counts=True)
    chosen = rng.permutation(known[counts >= _SHOTS])[:_MEASURED]
    if not len(chosen):
        raise TrainingError(f"an encoder is measured with words of {_SHOTS} clips or more; these have {max(counts)}")
    peaks: list[float] = []
    for word in chosen:
        prototype = normalised(some(words[labels == word], _SHOTS, rng).mean(axis=0))
        same = rivals.same(word, prototype)
        mean, deviation = rivals.compared(prototype, rivals.spoken(same))
        for stream in streams:
            peaks += _peaks((stream @ prototype - rivals.penalty(stream, same) - mean) / deviation, apart)
    hours = len(chosen) * sum(map(len, streams)) * every * hop_s / 3600
    peaks.sort(reverse=True)
    found = [[rate, peaks[round(rate * hours)]] for rate in _RATES if 1 <= round(rate * hours) < len(peaks)]
    if not found or not found[0][0] <= BUDGET <= found[-1][0]:
        raise TrainingError(
            f"too little running speech to measure {BUDGET:g} false accept an hour: {counted(len(chosen), 'word')} "
            f"heard it for {hours:.2f} hours in all, with {counted(len(peaks), 'peak')}; give more recordings or words"
        )
    return found


def _peaks(scores: np.ndarray, apart: int) -> list[float]:
    """The peaks of a stream's scores that are further apart than `apart` scores. `scores` are overwritten."""
    found: list[float] = []
    while len(scores) and scores[best := int(scores.argmax())] > _NO_PEAK:
        found.append(float(scores[best]))
        scores[max(0, best - apart) : best + apart + 1] = _NO_PEAK
    return found
