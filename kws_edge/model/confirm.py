"""A second network that confirms the answers of a network with state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kws_edge.config import ConfirmConfig
from kws_edge.labels import is_keyword
from kws_edge.model.quantization import posterior
from kws_edge.model.window import Window

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Confirmer"]

_NEVER = 1e-5
"""No posterior is nearer to 0 or 1 than this."""


class Confirmer:
    """Confirms the answers of one stream.

    Where the first network gives a keyword a posterior of `least` or more, the second hears the last window of a clip's
    length, and earlier ones. The keyword's posterior becomes that of the mean of two logits: the first network's, and
    that of the second network's mean posterior. The second network is asked as rarely as something sounds like a word.

    Parameters
    ----------
    second : kws_edge.Model
        A network of clips.
    config : ConfirmConfig
    labels : sequence of str
        Those of the first network. The second one knows the keywords among them.
    hop_frames : int
        Most frames that are heard at a time.
    """

    def __init__(self, second: Any, config: ConfirmConfig, labels: Sequence[str], hop_frames: int) -> None:
        self._second, self._config = second, config
        self._interpreter = second.interpreter.another()
        self._columns = [i for i, label in enumerate(labels) if is_keyword(label)]
        self._its_columns = [second.labels.index(labels[i]) for i in self._columns]
        self._n_frames, columns = second.frontend_config.feature_shape
        self._back = [i * config.spacing_frames for i in range(config.windows)]
        self._heard = Window(self._n_frames + self._back[-1] + hop_frames, columns, np.float32)
        self._levels = np.empty((self._n_frames, columns), second.input.dtype)
        self.reset()

    def reset(self) -> None:
        """Start a new stream, before which is silence."""
        self._heard.rows[:] = self._second.frontend.silence()
        self._end = 0  # of the stream, in frames
        self._known: dict[int, NDArray[np.float32]] = {}

    def confirm(self, features: NDArray[np.float32], posteriors: NDArray[np.float32]) -> None:
        """Change the posteriors of what the first network almost hears.

        Parameters
        ----------
        features : numpy.ndarray, shape (frames, columns), float32
            What is new in the stream.
        posteriors : numpy.ndarray, shape (answers, n_labels), float32
            Answers of the first network to them.
        """
        start, step = self._end, len(features) // len(posteriors)
        self._heard.extend(len(features))[:] = features
        self._end += len(features)
        keywords = posteriors[:, self._columns]
        likely = keywords >= self._config.least
        if not likely.any():  # nearly always
            return
        for i in np.flatnonzero(likely.any(axis=1)):
            first = keywords[i]
            second = self._mean(start + step * (int(i) + 1))
            posteriors[i, self._columns] = np.where(likely[i], _joint(first, second), first)

    def _mean(self, end: int) -> NDArray[np.float32]:
        """The second network's mean posteriors of the keywords at the frame `end` of the stream."""
        ends = [end - back for back in self._back]
        self._known = {key: value for key, value in self._known.items() if key >= ends[-1]}
        for key in ends:
            if key not in self._known:
                self._known[key] = self._ask(key)
        mean: NDArray[np.float32] = np.mean([self._known[key] for key in ends], axis=0)
        return mean

    def _ask(self, end: int) -> NDArray[np.float32]:
        rows, second = self._heard.rows, self._second
        stop = len(rows) - (self._end - end)
        second.quantize_levels(rows[stop - self._n_frames : stop], out=self._levels)
        q = self._interpreter.invoke(self._levels.reshape(second.input.shape))
        answer: NDArray[np.float32] = second.dequantize(q)[self._its_columns]
        return answer


def _joint(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """The posteriors of the mean logits."""
    logits = [np.log(p / (1 - p)) for p in (np.clip(p.astype(float), _NEVER, 1 - _NEVER) for p in (first, second))]
    return posterior((logits[0] + logits[1]) / 2, 0.0)
