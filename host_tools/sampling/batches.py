"""Training batches: a mix of words, noise and speech, augmented as configured."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from host_tools.config import MixConfig
from host_tools.data.features import model_input, raw_to_levels
from host_tools.sampling.augment import augment, mixup, silent_raw
from host_tools.sampling.bank import Bank
from host_tools.sampling.examples import Examples
from host_tools.sampling.mining import Negatives
from host_tools.sampling.words import Words
from kws_edge.labels import SILENCE, UNKNOWN

__all__ = ["Batches", "made_ahead"]

T = TypeVar("T")
_BABBLE_SNR_DB = 8.0


class Batches:
    """Augmented training batches. The same seed, epoch and index give the same batch.

    Parameters
    ----------
    examples : Examples
    mix : MixConfig
        If `examples` hold no speech, the shares of speech count as zero. If ``unknown`` is no label, speech is labelled
        ``silence``, and the share of ``silence`` grows.
    batch_size : int
    seed : int
    smoothing : float
        Label smoothing.
    """

    def __init__(
        self, examples: Examples[Bank], mix: MixConfig, *, batch_size: int, seed: int, smoothing: float = 0.1
    ) -> None:
        self.examples, self.mix = examples, mix
        self.batch_size, self.seed, self.smoothing = batch_size, seed, smoothing
        self.words = Words(examples)
        self.negatives = Negatives(examples, mix, self.words)
        self._augment = mix.augment.scaled()
        self._speech_share = mix.speech_share if examples.speech else 0.0
        self._hard_negatives = mix.hard_negatives
        if not self.words.unknown:
            self._speech_share, self._hard_negatives = 1.0, 0.0
        self._babble = mix.babble if examples.speech else 0.0
        self._shares, self._speech_part = self._label_shares()

    def _label_shares(self) -> tuple[np.ndarray, float]:
        """The share of each label in a batch, and the share of speech in silence."""
        labels, mix, words = self.examples.labels, self.mix, self.words
        shares, speech_part = {SILENCE: mix.silence_share, UNKNOWN: mix.unknown_share}, 0.0
        if UNKNOWN not in labels and SILENCE in labels and self.examples.speech:
            shares[SILENCE] = mix.silence_share + mix.unknown_share
            speech_part = mix.unknown_share / shares[SILENCE] if shares[SILENCE] else 0.0
        rest = 1 - sum(shares[w] for w in labels if w in shares)
        weights = {w: self.examples.count(w) ** 0.5 for w in words.keywords}
        total = sum(weights.values())
        return np.array([shares[w] if w in shares else rest * weights[w] / total for w in labels]), speech_part

    def epoch(self, epoch: int, steps: int) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
        """The batches of an epoch, made by :func:`made_ahead`."""
        return made_ahead(functools.partial(self.batch, epoch), steps)

    def batch(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """One batch.

        Returns
        -------
        inputs : numpy.ndarray, shape (batch_size, *config.feature_shape, 1), float32
        targets : numpy.ndarray, shape (batch_size, n_labels), float32
        """
        self.words.turn(epoch)
        rng = np.random.default_rng((self.seed, epoch, index))
        config, n_labels = self.examples.config, len(self.examples.labels)
        raw, truth, silent = self.draw(self.batch_size, rng)
        noise = self.examples.noise
        added = noise.draw(len(raw), rng) if noise else np.full_like(raw, silent_raw(config))
        least = np.full(len(raw), -np.inf)
        if self._babble:
            behind = np.flatnonzero(rng.random(len(raw)) < self._babble)
            added[behind] = self.examples.speech.draw(len(behind), rng)
            least[behind] = _BABBLE_SNR_DB
        levels = augment(raw, added, rng, config, self._augment, gain_only=silent, least_snr_db=least)
        targets = np.full((len(raw), n_labels), self.smoothing / n_labels, np.float32)
        targets[np.arange(len(raw)), truth] += 1 - self.smoothing
        if self._augment.mixup:
            levels, targets = mixup(levels, targets, rng, self._augment.mixup)
        return model_input(levels, config), targets

    def mine(self, posteriors: Callable[[np.ndarray], np.ndarray], epoch: int) -> dict[str, int]:
        """Find noise and speech in which a network hears keywords, for an epoch; see :meth:`Negatives.mine`."""
        self.words.turn(epoch)
        return self.negatives.mine(posteriors, np.random.default_rng((self.seed, epoch)))

    def draw(
        self, n: int, rng: np.random.Generator, *, even: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Training examples before augmentation.

        Parameters
        ----------
        n : int
        rng : numpy.random.Generator
        even : bool
            Draw labels evenly instead of by their shares.

        Returns
        -------
        raw : numpy.ndarray, shape (n, frames, mels), float32
            Raw levels.
        truth : numpy.ndarray, shape (n,), int
            Label indices.
        silent : numpy.ndarray, shape (n,), bool
            Whether each example is noise.
        """
        labels, config = self.examples.labels, self.examples.config
        truth = np.arange(n) % len(labels) if even else rng.choice(len(labels), n, p=self._shares)
        names = np.array(labels, dtype=object)[truth]
        if self._speech_part:
            names[(names == SILENCE) & (rng.random(n) < self._speech_part)] = UNKNOWN
        silent = names == SILENCE
        kind = np.where(names == UNKNOWN, rng.random(n), np.inf)
        speech = kind < self._speech_share
        hard = ~speech & (kind < self._speech_share + self._hard_negatives)
        words = ~silent & ~speech & ~hard
        raw = np.empty((n, config.n_frames, config.n_mels), np.float32)
        for name, chosen in ((SILENCE, silent), (UNKNOWN, speech)):
            if chosen.any():
                raw[chosen] = self.negatives.draw(name, int(chosen.sum()), rng)
        if hard.any():
            raw[hard] = self.words.draw_hard(int(hard.sum()), rng)
        raw[words] = self.words.draw(names[words], rng)
        return raw, truth, silent

    def set_aside(self, n: int, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Examples for validation and quantisation, which a run keeps so that it needs the data no more.

        Returns
        -------
        dict
            Inputs and label indices of ``validation`` and ``calibration``. Calibration has `n` training examples,
            evenly by label.
        """
        config = self.examples.config
        validation, truth = self.examples.validation
        calibration, calibration_truth, _ = self.draw(n, np.random.default_rng(seed), even=True)
        parts = {"validation": (validation, truth), "calibration": (calibration, calibration_truth)}
        return {name: (model_input(raw_to_levels(raw, config), config), which) for name, (raw, which) in parts.items()}


def made_ahead(make: Callable[[int], T], steps: int, *, ahead: int = 4) -> Generator[T, None, None]:
    """What `make` gives for 0 to ``steps - 1``. A thread makes up to `ahead` in advance, while the caller trains."""
    with ThreadPoolExecutor(1, initializer=_step_back) as pool:
        pending = deque(pool.submit(make, i) for i in range(min(ahead, steps)))
        for i in range(ahead, steps + ahead):
            ready = pending.popleft().result()
            if i < steps:
                pending.append(pool.submit(make, i))
            yield ready


def _step_back() -> None:
    """Lower this thread's priority. Training threads wait for each other, and seldom for batches."""
    if sys.platform == "linux":  # threads of Linux have priorities of their own
        me = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, me, os.getpriority(os.PRIO_PROCESS, me) + 10)
