"""Words drawn for a batch: single words, pairs of words, and halves of keywords."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from host_tools.data.features import power_to_raw, raw_to_power
from host_tools.sampling.augment import shift_and_stretch
from host_tools.sampling.examples import Examples
from kws_edge.labels import SILENCE, UNKNOWN

__all__ = ["Words"]


class Words:
    """The words of `examples`. Examples are drawn from them at random.

    Parameters
    ----------
    examples : Examples
    """

    def __init__(self, examples: Examples[Any]) -> None:
        self.examples = examples
        self.keywords = [label for label in examples.labels if label not in (SILENCE, UNKNOWN)]
        self._begin()

    def turn(self, epoch: int) -> None:
        """Take the examples of an epoch; see :meth:`Examples.turn`."""
        if self.examples.turn(epoch):
            self._begin()

    def _begin(self) -> None:
        self.unknown = [word for word in self.examples.by_word if word not in self.examples.labels]
        self._kinds: dict[str, tuple[list[np.ndarray], np.ndarray]] = {}

    def draw(self, names: Iterable[str], rng: np.random.Generator) -> np.ndarray:
        """An example of each name. Unknown words are drawn evenly, so rare words come as often as common ones.

        Returns
        -------
        numpy.ndarray, shape (n, frames, mels), float32
            Raw levels.
        """
        numbers = []
        for name in names:
            word = self.unknown[rng.integers(len(self.unknown))] if name == UNKNOWN else name
            if word not in self._kinds:
                self._kinds[word] = self._by_kind(word)
            groups, bounds = self._kinds[word]
            group = groups[min(int(np.searchsorted(bounds, rng.random())), len(groups) - 1)]
            numbers.append(group[rng.integers(len(group))])
        return self.examples.rows(np.array(numbers, np.intp))

    def draw_hard(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Windows that are common in streams but not in clips.

        They hold the end of a word and the beginning of another, or about half of a keyword.

        Returns
        -------
        numpy.ndarray, shape (n, frames, mels), float32
            Raw levels.
        """
        config = self.examples.config
        second = 1000 / config.hop_ms  # frames in a second

        def moved(raw: np.ndarray, low: float, high: float) -> np.ndarray:
            one = np.ones(len(raw))
            return shift_and_stretch(raw, rng.uniform(low, high, len(raw)) * second, one, one, config)

        pairs = n // 2
        ends = moved(self.draw([UNKNOWN] * pairs, rng), -0.5, -0.2)
        starts = moved(self.draw([UNKNOWN] * pairs, rng), 0.2, 0.5)
        joined = power_to_raw(raw_to_power(ends, config) + raw_to_power(starts, config), config)
        keywords = self.draw([self.keywords[i] for i in rng.integers(len(self.keywords), size=n - pairs)], rng)
        cut = moved(keywords, 0.45, 0.7)
        early = rng.random(len(cut)) < 0.5
        cut[early] = moved(keywords[early], -0.7, -0.45)
        return np.concatenate([joined, cut])

    def _by_kind(self, word: str) -> tuple[list[np.ndarray], np.ndarray]:
        """Recorded, synthetic and precomputed examples of a word, those of a site, and the bounds of their shares.

        The shares go by the square roots of their numbers. So a network cannot tell a word with few recordings by the
        traces of stored features, and the few clips of a site count for more than their number.
        """
        numbers = self.examples.by_word[word]
        ends = np.cumsum([len(store) for store in self.examples.stores])
        kind = np.array(self.examples.kinds)[np.searchsorted(ends, numbers, side="right")]
        groups = {name: numbers[kind == name] for name in dict.fromkeys(self.examples.kinds)}
        groups = {name: group for name, group in groups.items() if len(group)}
        shares = np.array([self.examples.count_of(word, name, len(group)) ** 0.5 for name, group in groups.items()])
        return list(groups.values()), np.cumsum(shares / shares.sum())
