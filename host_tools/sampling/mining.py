"""Noise and speech that must not be heard as keywords. Windows in which a network hears keywords are preferred."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from host_tools.config import MixConfig
from host_tools.data.features import model_input, raw_to_levels
from host_tools.sampling.bank import SPEECH_STRETCH, Bank, one_side, quietest, stretched, windows
from host_tools.sampling.examples import Examples
from host_tools.sampling.words import Words
from kws_edge.labels import SILENCE, UNKNOWN, is_keyword

__all__ = ["Negatives"]

_CHUNK, _CHUNKS = 1000, 10
"""Windows of noise, and as many of speech, that are searched before an epoch."""
_HARD = 0.1
"""A window without a keyword is hard if a keyword's posterior is at least this."""


class Negatives:
    """Noise and speech without keywords, drawn as a mix says.

    Parameters
    ----------
    examples : Examples
    mix : MixConfig
    words : Words
        Words whose quietest parts serve as noise.
    """

    def __init__(self, examples: Examples[Bank], mix: MixConfig, words: Words) -> None:
        self.examples, self.mix, self.words = examples, mix, words
        self._found: dict[str, np.ndarray] = {}

    def draw(self, name: str, n: int, rng: np.random.Generator) -> np.ndarray:
        """Noise for ``silence``, or speech for ``unknown``. A share of it is what :meth:`mine` found.

        Returns
        -------
        numpy.ndarray, shape (n, frames, mels), float32
            Raw levels.
        """
        raw = self._noise(n, rng) if name == SILENCE else self._speech(n, rng)
        if name in self._found:
            mined = rng.random(n) < self.mix.mined
            raw[mined] = self._found[name][rng.integers(len(self._found[name]), size=int(mined.sum()))]
        return raw

    def _noise(self, n: int, rng: np.random.Generator) -> np.ndarray:
        config = self.examples.config
        raw = windows(self.examples.noise, n, rng, config, variety=self.mix.variety)
        if self.mix.hiss:
            hiss = np.flatnonzero(rng.random(n) < self.mix.hiss)
            words = rng.choice(list(self.examples.by_word), len(hiss))
            raw[hiss] = quietest(self.words.draw(words, rng), config)
            one_side(raw, hiss[rng.random(len(hiss)) < 0.5], rng, config)
        return raw

    def _speech(self, n: int, rng: np.random.Generator) -> np.ndarray:
        raw = self.examples.speech.draw(n, rng)
        if self.mix.variety:
            varied = rng.random(n) < self.mix.variety
            raw[varied] = stretched(raw[varied], SPEECH_STRETCH, rng, self.examples.config)
        return raw

    def mine(self, posteriors: Callable[[np.ndarray], np.ndarray], rng: np.random.Generator) -> dict[str, int]:
        """Find noise and speech in which a network hears keywords. Later draws use them.

        Parameters
        ----------
        posteriors : callable
            Maps inputs, shape (n, *config.feature_shape, 1), to posteriors, shape (n, n_labels).
        rng : numpy.random.Generator

        Returns
        -------
        dict
            Number of windows found for ``silence`` and for ``unknown``. A keyword's posterior in them is a tenth or
            more. At least two percent of the searched windows are taken.
        """
        config, keywords = self.examples.config, [is_keyword(label) for label in self.examples.labels]
        self._found = {}
        for name, bank in ((SILENCE, self.examples.noise), (UNKNOWN, self.examples.speech)):
            kept = []
            for _ in range(_CHUNKS if bank else 0):
                raw = self.draw(name, _CHUNK, rng)
                score = posteriors(model_input(raw_to_levels(raw, config), config))[:, keywords].max(axis=1)
                hardest = np.argsort(-score)[: max(_CHUNK // 50, int((score >= _HARD).sum()))]
                kept.append(raw[hardest])
            if kept:
                self._found[name] = np.concatenate(kept)
        return {name: len(raw) for name, raw in self._found.items()}
