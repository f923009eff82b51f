"""One taught word."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kws_edge.labels import check_labels
from kws_edge.teach.encoder import normalised
from kws_edge.text import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TaughtWord"]


@dataclass(frozen=True)
class TaughtWord:
    """A word, as the encoder hears it; see :class:`kws_edge.TaughtWords`.

    Examples
    --------
    >>> import numpy as np
    >>> from kws_edge import TaughtWord
    >>> word = TaughtWord("lamp", 5, "2026-11-28", np.ones(64, np.float32), (0.1, 0.05), 7.2)
    >>> TaughtWord.from_dict(word.to_dict(), 64).name
    'lamp'
    """

    name: str
    takes: int
    """Number of recordings."""
    date: str
    """When it was taught, ISO 8601."""
    prototype: NDArray[np.float32]
    """Mean embedding, shape (dimensions,), float32, of length 1."""
    others: tuple[float, float]
    """Mean and standard deviation of the scores of speech; see :meth:`kws_edge.teach.encoder.Rivals.compared`."""
    weakest: float
    """Score of the take that is least like the others, in deviations of the scores of speech."""

    def to_dict(self) -> dict[str, Any]:
        """The word as a JSON-ready dict."""
        values = dataclasses.asdict(self)
        values["prototype"] = base64.b64encode(self.prototype.astype("<f4").tobytes()).decode()
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], dimensions: int) -> TaughtWord:
        """Read :meth:`to_dict`'s output; raise a ValueError, TypeError or KeyError if it is none."""
        (name,) = check_labels("a taught word", [values["name"]])
        prototype = np.frombuffer(base64.b64decode(values["prototype"], validate=True), "<f4").astype(np.float32)
        mean, deviation = (float(value) for value in values["others"])
        numbers = [*prototype.tolist(), mean, deviation, float(values["weakest"])]
        if len(prototype) != dimensions or not np.isfinite(numbers).all() or deviation <= 0:
            raise ValueError(f"the word {shown(name)} is damaged")
        date = str(values["date"])
        return cls(name, int(values["takes"]), date, normalised(prototype), (mean, deviation), numbers[-1])
