"""The label of a clip, by its posteriors."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kws_edge.labels import SILENCE, is_keyword, is_unknown
from kws_edge.model.file import Metadata

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Classification", "classified"]

_LIKELY = 0.5
"""Posterior from which ``unknown`` of a network with state counts."""


class Classification(NamedTuple):
    """The result of classifying a clip of audio.

    Examples
    --------
    >>> import numpy as np
    >>> from kws_edge import Model
    >>> label, score, posteriors = Model("commands12").classify(np.zeros(16000, np.int16))
    >>> label, score > 0.5, posteriors.shape
    ('silence', True, (12,))
    """

    label: str
    """The label that was decided for; see :func:`classified`."""
    score: float
    """Its posterior, 0 to 1."""
    posteriors: NDArray[np.float32]
    """Posterior of each label, shape (len(labels),), float32."""


def classified(metadata: Metadata, posteriors: NDArray[np.float32]) -> Classification:
    """Decide for a label of a clip.

    In general, the label of the largest posterior is the result. The posteriors of a network with state are independent
    of one another, and its ``unknown`` stands for any speech. So its result is the likeliest of the keywords that reach
    their thresholds. If no keyword does, the result is ``unknown`` from a posterior of one half on. Otherwise it is
    ``silence``. A network without this label is as sure of silence as of the absence of all labels.

    Parameters
    ----------
    metadata : Metadata
        Of the model file.
    posteriors : numpy.ndarray, shape (len(metadata.labels),), float32
    """
    labels = metadata.labels
    best = int(posteriors.argmax())
    if metadata.step is not None:
        config = metadata.detector_config
        kinds: dict[str, list[int]] = {"keyword": [], "unknown": [], "silence": []}
        for i, label in enumerate(labels):
            kinds["keyword" if is_keyword(label) else "unknown" if is_unknown(label) else "silence"].append(i)
        reached = [i for i in kinds["keyword"] if posteriors[i] >= config.threshold_of(labels[i])]
        spoken = [i for i in kinds["unknown"] if posteriors[i] >= _LIKELY]
        candidates = reached or spoken or kinds["silence"]
        if not candidates:
            return Classification(SILENCE, float(1 - posteriors[best]), posteriors)
        best = max(candidates, key=posteriors.__getitem__)
    return Classification(labels[best], float(posteriors[best]), posteriors)
