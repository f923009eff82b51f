"""One taught word."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kws_edge.labels import check_labels
from kws_edge.ranges import number
from kws_edge.teach.encoder import normalised
from kws_edge.text import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PROMISED", "THRESHOLD", "TaughtWord"]

PROMISED = 0.5
"""The threshold that keeps the encoder's promise."""
THRESHOLD = number(0, 1)
"""Range of :attr:`TaughtWord.threshold`."""
_ARRAYS = ("mean", "prototype", "wrong")


@dataclass(frozen=True)
class TaughtWord:
    """A word, as the encoder hears it; see :class:`kws_edge.TaughtWords`.

    Examples
    --------
    >>> import numpy as np
    >>> from kws_edge import TaughtWord
    >>> mean = np.full(64, 0.125, np.float32)
    >>> word = TaughtWord("lamp", 5, "2026-11-28", mean, mean, (0.1, 0.05), 7.2, np.empty((0, 64), np.float32))
    >>> TaughtWord.from_dict(word.to_dict(), 64).name
    'lamp'
    """

    name: str
    takes: int
    """Number of recordings."""
    date: str
    """When it was taught, ISO 8601."""
    mean: NDArray[np.float32]
    """Mean embedding of the recordings, shape (dimensions,), float32, of length 1."""
    prototype: NDArray[np.float32]
    """What is heard: `mean`, turned away from `wrong`, and of length 1."""
    others: tuple[float, float]
    """Mean and standard deviation of the scores of speech; see :meth:`kws_edge.teach.encoder.Rivals.compared`."""
    weakest: float
    """Score of the take that is least like the others, in deviations of the scores of speech."""
    wrong: NDArray[np.float32]
    """Embeddings of what was wrongly taken for the word, shape (n, dimensions), float32; see `teach --wrong`."""
    threshold: float = PROMISED
    """Score that counts as heard, in (0, 1), as detections have it."""

    def to_dict(self) -> dict[str, Any]:
        """The word as a JSON-ready dict."""
        values = dataclasses.asdict(self)
        for name in _ARRAYS:
            values[name] = base64.b64encode(values[name].astype("<f4").tobytes()).decode()
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], dimensions: int) -> TaughtWord:
        """Read :meth:`to_dict`'s output; raise a ValueError, TypeError or KeyError if it is none."""
        (name,) = check_labels("a taught word", [values["name"]])
        parts = [np.frombuffer(base64.b64decode(values[part], validate=True), "<f4") for part in _ARRAYS]
        mean, prototype, wrong = (normalised(part.reshape(-1, dimensions)) for part in parts)
        others, deviation = (float(value) for value in values["others"])
        weakest, threshold = float(values["weakest"]), THRESHOLD.check("threshold", values["threshold"])
        numbers = np.concatenate([*parts, [others, deviation, weakest]])
        if (len(mean), len(prototype)) != (1, 1) or not np.isfinite(numbers).all() or deviation <= 0:
            raise ValueError(f"the word {shown(name)} is damaged")
        return cls(
            name,
            int(values["takes"]),
            str(values["date"]),
            mean[0],
            prototype[0],
            (others, deviation),
            weakest,
            wrong,
            threshold,
        )
