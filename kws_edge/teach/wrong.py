"""What a taught word learns from recordings that were wrongly taken for it.

Its prototype turns away from them, as little as keeps them from being heard. So the word costs nothing more where it is
heard, and recordings that are like them are heard less, too.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from kws_edge.errors import ConfigError
from kws_edge.teach.encoder import Rivals, normalised
from kws_edge.teach.listener import BUDGET, least_score
from kws_edge.text import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kws_edge.teach.encoder import Encoder
    from kws_edge.teach.word import TaughtWord

__all__ = ["EVERY_MS", "learnt", "scores", "windows"]

EVERY_MS = 50
"""Time from one window of a recording to the next."""
_MARGIN = 0.5
"""A wrong recording falls this far below the threshold, in deviations of other speech."""
_STEP, _MOST_STEPS = 0.02, 300
"""How far the prototype turns in a step, and how often at most."""
_LIKEST = 0.9
"""Cosine to the takes from which on a recording is taken for the word itself."""
_FURTHEST = 0.7
"""Least cosine of a turned prototype to what was taught."""
_EACH, _MOST = 5, 100
"""Windows that are kept of a recording, and of all together."""


def windows(encoder: Encoder, samples: NDArray[Any]) -> NDArray[np.float32]:
    """Embeddings of what a stream would hear in a recording, one each 50 ms, shape (n, dimensions), float32.

    Parameters
    ----------
    encoder : kws_edge.teach.encoder.Encoder
    samples : numpy.ndarray, shape (n,), int16
        At the model's rate. What is shorter than a clip of the model gets silence around it.
    """
    c = encoder.model.frontend_config
    lacking = max(0, c.clip_samples - len(samples))
    samples = np.pad(samples, (lacking // 2, lacking - lacking // 2))
    starts = range(0, len(samples) - c.clip_samples + 1, c.sample_rate * EVERY_MS // 1000)
    return np.stack([encoder.embed(samples[start : start + c.clip_samples]) for start in starts])


def scores(word: TaughtWord, embeddings: NDArray[np.float32], rivals: Rivals) -> NDArray[np.float32]:
    """Score of a word for each of `embeddings`, shape (n, dimensions), in deviations of the scores of speech."""
    penalty = rivals.penalty(embeddings, rivals.same(word.name, word.prototype))
    found: NDArray[np.float32] = (embeddings @ word.prototype - penalty - word.others[0]) / word.others[1]
    return found


def learnt(word: TaughtWord, embeddings: NDArray[np.float32], encoder: Encoder) -> TaughtWord:
    """The word, turned away from a recording that was wrongly taken for it, and from all earlier ones.

    Parameters
    ----------
    word : TaughtWord
    embeddings : numpy.ndarray, shape (n, dimensions), float32
        Of the recording, from :func:`windows`; none to make the word anew for another threshold.
    encoder : kws_edge.teach.encoder.Encoder

    Raises
    ------
    ConfigError
        If the recording is too much like the word, or the word would not be heard any more.
    """
    rivals = encoder.rivals
    if len(embeddings):
        likeness = float((embeddings @ word.mean).max())
        if likeness > _LIKEST:
            raise ConfigError(
                f"as much like {shown(word.name)} as its own takes are (likeness {likeness:.2f}, {_LIKEST:g} is the "
                "most), so nothing is learnt from it"
            )
        embeddings = embeddings[np.argsort(scores(word, embeddings, rivals))[-_EACH:]]
    wrong = np.concatenate([word.wrong, embeddings])[-_MOST:]
    word = dataclasses.replace(word, wrong=wrong)
    return _turned(word, rivals, least_score(word.threshold, encoder.threshold(BUDGET)) - _MARGIN)


def _turned(word: TaughtWord, rivals: Rivals, most: float) -> TaughtWord:
    """The word, with a prototype for which no wrong recording scores above `most`."""
    prototype, same = word.mean, np.empty(0, np.intp)
    for step in range(_MOST_STEPS):
        now = rivals.same(word.name, prototype)
        if step == 0 or not np.array_equal(now, same):
            same, penalty, spoken = now, rivals.penalty(word.wrong, now), rivals.spoken(now)
        mean, deviation = rivals.compared(prototype, spoken)
        found = (word.wrong @ prototype - penalty - mean) / deviation
        if not len(found) or found.max() <= most:
            return dataclasses.replace(word, prototype=prototype, others=(mean, deviation))
        worst = word.wrong[found.argmax()]
        prototype = normalised(prototype - _STEP * normalised(worst - (worst @ prototype) * prototype))
        if prototype @ word.mean < _FURTHEST:
            break
    raise ConfigError(
        f"{shown(word.name)} would hardly be heard any more: too much of what is wrong is like it; teach it anew from "
        "other takes, or teach another word"
    )
