"""Errors of a network with state on sequences that training set aside, with kws_edge's detector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from host_tools.data.annotations import Word
from host_tools.evaluation.scoring import Heard, Score, score
from kws_edge.config import DetectorConfig
from kws_edge.detection.detector import Detector
from kws_edge.labels import is_keyword

__all__ = ["sequence_scores"]

_SMOOTHING_MS = 120.0


def sequence_scores(
    posteriors: NDArray[np.float32],
    words: NDArray[np.int32],
    labels: Sequence[str],
    *,
    threshold: float,
    answer_s: float,
    hop_s: float,
) -> Score:
    """The score of sequences at a threshold, each as a stream of its own.

    Parameters
    ----------
    posteriors : numpy.ndarray, shape (n, answers, len(labels))
    words : numpy.ndarray, shape (m, 5), int
        As :attr:`host_tools.sampling.sequences.Sequences.words`. Those that need not be heard count as optional.
    labels : sequence of str
    threshold : float
    answer_s, hop_s : float
        Seconds from answer to answer, and from frame to frame.
    """
    spoken: list[list[Word]] = [[] for _ in posteriors]
    for number, first, last, output, heard in words:
        if output >= 0 and is_keyword(labels[output]):
            spoken[number].append(Word(first * hop_s, last * hop_s, labels[output], optional=not heard))
    keywords = [i for i, label in enumerate(labels) if is_keyword(label)]
    names = [labels[i] for i in keywords]
    config = DetectorConfig(threshold=threshold, smoothing_ms=_SMOOTHING_MS)
    detector = Detector(names, config, step_s=answer_s, clip_s=answer_s)
    streams = []
    for number, answers in enumerate(posteriors[:, :, keywords]):
        detector.reset()
        times = answer_s * np.arange(1, len(answers) + 1)
        found = [detector.process(row, float(at)) for row, at in zip(answers, times, strict=True)]
        streams.append(Heard(str(number), answer_s * len(answers), spoken[number], [one for one in found if one]))
    return score(streams, names)
