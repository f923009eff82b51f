"""Words drawn for a batch: single ones, and pairs and halves of them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from host_tools.data.features import power_to_raw, raw_to_power
from host_tools.sampling.augment import shift_and_stretch
from host_tools.sampling.examples import Examples
from kws_edge.labels import SILENCE, UNKNOWN

__all__ = ["Words"]


class Words:
    """The words of `examples`, from which examples are drawn at random.

    Parameters
    ----------
    examples : Examples
    """

    def __init__(self, examples: Examples) -> None:
        self.examples = examples
        self.keywords = [label for label in examples.labels if label not in (SILENCE, UNKNOWN)]
        self.unknown = [word for word in examples.by_word if word not in examples.labels]
        self.kinds = {word: self._by_kind(numbers) for word, numbers in examples.by_word.items()}

    def draw(self, names: Iterable[str], rng: np.random.Generator) -> np.ndarray:
        """An example of each name; unknown words are drawn evenly, so that rare ones are heard as often as common ones.

        Returns
        -------
        numpy.ndarray, shape (n, frames, mels), float32
            Raw levels.
        """
        numbers = []
        for name in names:
            word = self.unknown[rng.integers(len(self.unknown))] if name == UNKNOWN else name
            groups, bounds = self.kinds[word]
            group = groups[min(int(np.searchsorted(bounds, rng.random())), len(groups) - 1)]
            numbers.append(group[rng.integers(len(group))])
        return self.examples.rows(np.array(numbers, np.intp))

    def draw_hard(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Windows that streams are full of and clips are not: the end of a word and the beginning of another, and about
        half of a keyword.

        Returns
        -------
        numpy.ndarray, shape (n, frames, mels), float32
            Raw levels.
        """
        config = self.examples.config
        second = 1000 / config.hop_ms  # frames

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

    def _by_kind(self, numbers: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Examples that are recorded, synthetic and precomputed, and the bounds of their shares: as the square roots of
        their numbers, so that a word with few recordings is not told by the traces that storing features leaves."""
        ends = np.cumsum([len(store) for store in self.examples.stores])
        kind = np.array(self.examples.kinds)[np.searchsorted(ends, numbers, side="right")]
        groups = [numbers[kind == name] for name in dict.fromkeys(self.examples.kinds)]
        groups = [group for group in groups if len(group)]
        shares = np.array([len(group) ** 0.5 for group in groups])
        return groups, np.cumsum(shares / shares.sum())
