"""Training batches of sequences: words over noise and speech, with what every answer shall be."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np

from host_tools.config import MixConfig, SequenceConfig
from host_tools.data.features import power_to_raw, raw_to_levels, raw_to_power
from host_tools.sampling.augment import equalisation
from host_tools.sampling.bank import SPEECH_STRETCH, stretched
from host_tools.sampling.batches import made_ahead
from host_tools.sampling.examples import Examples
from host_tools.sampling.placing import HALF, Placed, Placing
from host_tools.sampling.tracks import Tracks
from host_tools.sampling.words import Words
from kws_edge.labels import UNKNOWN

__all__ = ["SequenceBatches", "Sequences", "sequence_frames"]

_ALONE_DB, _HISS_ALONE_DB = (-25.0, 8.0), (-70.0, 0.0)
"""Gains of noise and speech in sequences without words, and of quiet noise there."""
_LOUDEST = 1e6
_EQUALISED = 0.5
"""Share of noise and speech that gets the response of another microphone."""
_AUDIBLE_DB, _UNDERSTOOD_DB = -5.0, 3.0
"""Least ratio of a word to the noise behind it, and to the speech behind it, at which it is asked for."""
_EARLY_MS, _SETTLE_MS = 100.0, 240.0
"""An answer may be the word from this long before the word's end to this long after `answer_ms`."""
_LOUD_ALONE, _SPEECH_ALONE = 0.94, 0.6
"""Share of sequences without words that hold more than quiet noise, and the share of speech in these."""
_VOICE_LATE_MS, _VOICE_WEIGHT = 200.0, 0.5
"""How late ``unknown`` tells of speech, and what all its answers weigh, as a share of what all words weigh."""
_VOICE_BEFORE_MS, _VOICE_AFTER_MS = 80.0, 250.0
"""Time around a word in which nobody knows whether it is speech."""
_LOUD_SPEECH, _SILENT_SPEECH, _SPEECH_FRAMES = 0.1, 0.003, 9
"""Running speech is loud from this share of its mean power on, and silent below the other, averaged over frames."""
_FAINT_DB, _DROWNED_DB = 18.0, -3.0
"""Speech behind words that is further below them, and words that are less above noise, may be speech or not."""
_NEGATIVE_MS = 300.0
"""Answers of this time that shall be no word weigh as much as a word."""
_NOTHING, _HISS, _NOISE, _SPEECH = range(4)


def sequence_frames(sequences: SequenceConfig, hop_ms: float, answer_frames: int) -> int:
    """Frames of a sequence: a whole number of answers."""
    return round(1000 * sequences.sequence_s / hop_ms / answer_frames) * answer_frames


@dataclass(frozen=True)
class Sequences:
    """Sequences with where words are said.

    Attributes
    ----------
    levels : numpy.ndarray, shape (n, frames, 1, mels), float32
    words : numpy.ndarray, shape (m, 5), int
        Of each word its sequence, first frame and the frame after its last, its output, and whether it must be heard.
        For words without one, the output is ``OTHER``, ``HALF`` or ``CUT`` of :mod:`host_tools.sampling.placing`.
    unsure : numpy.ndarray, shape (n, frames), bool
        Where speech behind the words has keywords of its own.
    voice : numpy.ndarray, shape (n, frames), int8
        1 for any speech, 0 for none, -1 where nobody knows.
    """

    levels: np.ndarray
    words: np.ndarray
    unsure: np.ndarray
    voice: np.ndarray


class SequenceBatches:
    """Batches of sequences. The same seed, epoch and index give the same batch.

    Parameters
    ----------
    examples : Examples
        With noise and speech as :class:`host_tools.sampling.tracks.Tracks`.
    mix : MixConfig
        Its augmentation, `variety` and `mined` hold for sequences, too.
    sequences : SequenceConfig
    answer_frames : int
        Frames from one answer to the next.
    batch_size : int
    seed : int
    others : tuple of str
        Words that are outputs besides the labels.
    """

    def __init__(
        self,
        examples: Examples[Tracks],
        mix: MixConfig,
        sequences: SequenceConfig,
        *,
        answer_frames: int,
        batch_size: int,
        seed: int,
        others: tuple[str, ...] = (),
    ) -> None:
        self.config, self.mix, self.sequences = examples.config, mix, sequences
        self.noise, self.speech = examples.noise, examples.speech
        self.batch_size, self.seed, self.answer_frames = batch_size, seed, answer_frames
        self.outputs = (*examples.labels, *others)
        self._augment = mix.augment.scaled()
        self.voice = self.outputs.index(UNKNOWN) if UNKNOWN in examples.labels else None
        """The output of any speech."""
        weights = [1.0] * len(examples.labels) + [sequences.other_outputs] * len(others)
        self._weights = np.array(weights, np.float32)
        self.placing = Placing(
            Words(examples), self.outputs, self.noise.frames, sequences, self._augment, self.speech, mix.mined
        )

    def epoch(self, epoch: int, steps: int) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
        """The batches of an epoch, made by :func:`host_tools.sampling.batches.made_ahead`."""
        return made_ahead(functools.partial(self.batch, epoch), steps)

    def batch(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """One batch.

        Returns
        -------
        levels : numpy.ndarray, shape (batch_size, frames, 1, mels), float32
        targets : numpy.ndarray, shape (batch_size, answers, outputs), float32
            See :meth:`targets`.
        """
        self.placing.words.turn(epoch)
        made = self.draw(self.batch_size, np.random.default_rng((self.seed, epoch, index)))
        return made.levels, self.targets(made)

    def draw(self, n: int, rng: np.random.Generator) -> Sequences:
        """`n` sequences.

        Parameters
        ----------
        n : int
        rng : numpy.random.Generator
        """
        settings, hop_ms = self._augment, self.config.hop_ms
        placed = self.placing.place(n, rng)
        loudness = placed.mean_loudness()
        kinds = self._kinds(loudness > 0, rng)
        noise, said = self._behind(kinds, rng)
        factor, snr = self._mixed(kinds, loudness, noise, rng)
        power = placed.power
        power += noise * factor.astype(np.float32)[:, np.newaxis, np.newaxis]
        gated = (rng.random(n) < settings.gated) & (loudness > 0)
        hold = rng.uniform(*settings.hold_ms, (2, len(placed.sequence))) / hop_ms
        if gated.any():
            power[gated & (loudness > 0)] *= placed.near(*hold)[gated][:, :, np.newaxis]
        power *= (10 ** (rng.uniform(*settings.gain_db, n) / 10)).astype(np.float32)[:, np.newaxis, np.newaxis]
        levels = raw_to_levels(power_to_raw(power, self.config), self.config)
        words = self._words(placed, loudness, snr, kinds == _SPEECH)
        voice = self._voice(placed, noise, kinds == _SPEECH, snr)
        return Sequences(levels[:, :, np.newaxis], words, said, voice)

    def _kinds(self, spoken: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What is behind the words of each sequence. Sequences without words mostly hold speech or noise."""
        share, n = self._augment.noise_share, len(spoken)
        loud = rng.random(n) < np.where(spoken, share, _LOUD_ALONE)
        speech = rng.random(n) < np.where(spoken, self.sequences.speech_behind, _SPEECH_ALONE)
        hiss = rng.random(n) * (1 - share) < self.sequences.hiss_share
        kinds = np.where(loud, np.where(speech, _SPEECH, _NOISE), np.where(hiss, _HISS, _NOTHING))
        for kind, tracks in ((_SPEECH, self.speech), (_NOISE, self.noise), (_HISS, self.noise)):
            if not tracks:
                kinds[kinds == kind] = _NOTHING
        return kinds

    def _behind(self, kinds: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Band powers of what is behind the words, and where it has keywords of its own."""
        config = self.config
        power = np.zeros((len(kinds), self.noise.frames, config.n_mels), np.float32)
        unsure = np.zeros(power.shape[:2], bool)
        for chosen, tracks in ((np.isin(kinds, (_HISS, _NOISE)), self.noise), (kinds == _SPEECH, self.speech)):
            numbers = np.flatnonzero(chosen)
            if not len(numbers):
                continue
            raw, said = tracks.draw(len(numbers), rng, mined=self.mix.mined)
            varied = rng.random(len(numbers)) < self.mix.variety
            varied &= ~said.any(axis=1)  # keywords would lie elsewhere
            raw[varied] = stretched(raw[varied], SPEECH_STRETCH, rng, config)
            power[numbers], unsure[numbers] = raw_to_power(raw, config), said
        equalised = rng.random(len(kinds)) < _EQUALISED
        if self._augment.equalisation_db:
            power[equalised] *= equalisation(int(equalised.sum()), config.n_mels, self._augment.equalisation_db, rng)
        return power, unsure

    def _mixed(
        self, kinds: np.ndarray, loudness: np.ndarray, noise: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Factor on the power of what is behind the words of each sequence, and the signal-to-noise ratio in dB."""
        n, settings, sequences = len(kinds), self._augment, self.sequences
        ranges = {_HISS: sequences.hiss_snr_db, _NOISE: settings.snr_db, _SPEECH: sequences.speech_snr_db}
        snr, alone = np.full(n, np.inf), np.zeros(n)
        for kind, bounds in ranges.items():
            here = kinds == kind
            snr[here] = rng.uniform(*bounds, int(here.sum()))
            alone[here] = rng.uniform(*(_HISS_ALONE_DB if kind == _HISS else _ALONE_DB), int(here.sum()))
        level = noise.sum(axis=2).mean(axis=1) + 1e-6
        factor = np.where(loudness > 0, np.minimum(loudness / level * 10 ** (-snr / 10), _LOUDEST), 10 ** (alone / 10))
        return factor, snr

    def _words(self, placed: Placed, loudness: np.ndarray, snr: np.ndarray, speech: np.ndarray) -> np.ndarray:
        """The words of :class:`Sequences`."""
        hop_ms, sequence = self.config.hop_ms, placed.sequence
        first, last = placed.spans.T
        over = 10 * np.log10((placed.loudness + 1e-9) / (loudness[sequence] + 1e-9)) + snr[sequence]
        heard = over > np.where(speech[sequence], _UNDERSTOOD_DB, _AUDIBLE_DB)
        heard &= (first >= 0) & (
            last + self.sequences.answer_ms[0] / hop_ms < placed.power.shape[1] - self.answer_frames
        )
        columns = (sequence, np.floor(first), np.ceil(last), placed.output, heard)
        return np.stack(columns, axis=1).astype(np.int32)

    def _voice(self, placed: Placed, noise: np.ndarray, speech: np.ndarray, snr: np.ndarray) -> np.ndarray:
        """Where there is any speech, as :attr:`Sequences.voice`."""
        n, frames = noise.shape[:2]
        m, hop_ms = len(placed.sequence), self.config.hop_ms
        voice = np.zeros((n, frames), np.int8)
        around = ((0, 0), (_SPEECH_FRAMES // 2 + 1, _SPEECH_FRAMES // 2))
        summed = np.cumsum(np.pad(noise[speech].sum(axis=2), around), axis=1, dtype=np.float64)
        loud = summed[:, _SPEECH_FRAMES:] - summed[:, :-_SPEECH_FRAMES]
        loud /= loud.mean(axis=1, keepdims=True) + 1e-6
        voice[speech] = np.where(loud > _LOUD_SPEECH, 1, np.where(loud < _SILENT_SPEECH, 0, -1))
        voice[speech & np.isfinite(snr) & (snr > _FAINT_DB) & (placed.mean_loudness() > 0)] = -1
        near = placed.near(np.full(m, _VOICE_BEFORE_MS / hop_ms), np.full(m, _VOICE_AFTER_MS / hop_ms))
        voice[near & (voice == 0)] = -1
        within = placed.near(*np.where(placed.output == HALF, -np.inf, np.zeros((2, m))))
        voice[within & (snr > _DROWNED_DB)[:, np.newaxis]] = 1
        return voice

    def targets(self, made: Sequences) -> np.ndarray:
        """What every answer shall be, and how much it counts.

        A positive value is the weight of an answer that shall be the word, a negative one that of an answer that shall
        not, and at zero any answer will do. Each word weighs the same, whatever the number of its answers; all weights
        are divided by that of all words. ``unknown`` stands for any speech, with what is left of a moment ago.

        Parameters
        ----------
        made : Sequences

        Returns
        -------
        numpy.ndarray, shape (n, answers, outputs), float32
        """
        n, frames = made.unsure.shape
        hop_ms, step = self.config.hop_ms, self.answer_frames
        ends = np.arange(step, frames + 1, step)  # frames that an answer has heard
        base = -self.sequences.negatives * step * hop_ms / _NEGATIVE_MS * self._weights
        targets = np.tile(base, (n, len(ends), 1))
        targets[made.unsure[:, step - 1 :: step]] = 0
        asked_from, asked_to = (ms / hop_ms for ms in self.sequences.answer_ms)
        early, settled = _EARLY_MS / hop_ms, asked_to + _SETTLE_MS / hop_ms
        wanted = []
        for sequence, _, last, output, heard in made.words:
            if output < 0:
                continue
            targets[sequence, (ends >= last - early) & (ends < last + settled), output] = 0
            if heard:
                wanted.append((sequence, (ends >= last + asked_from) & (ends < last + asked_to), output))
        for sequence, answers, output in wanted:
            targets[sequence, answers, output] = self._weights[output] / max(1, answers.sum())
        targets /= 1 + sum(self._weights[output] for _, _, output in wanted)
        if self.voice is not None:
            late = round(_VOICE_LATE_MS / hop_ms)
            voice = np.pad(made.voice, ((0, 0), (late, 0)), constant_values=-1)[:, step - 1 : frames : step]
            known = _VOICE_WEIGHT / max(1, int((voice >= 0).sum()))
            targets[:, :, self.voice] = np.where(voice < 0, 0, np.where(voice, known, -known))
        return targets

    def answer_weights(self, targets: np.ndarray) -> np.ndarray:
        """What an answer of each output weighs if it may be any, shape (outputs,), float32.

        Parameters
        ----------
        targets : numpy.ndarray, shape (n, answers, outputs)
            See :meth:`targets`. Answers that shall be no word weigh this much there.
        """
        weights = -targets.min(axis=(0, 1))
        if self.voice is not None:
            weights[self.voice] = _VOICE_WEIGHT / targets[..., 0].size
        return weights

    def mine(self, posteriors: Callable[[np.ndarray], np.ndarray], epoch: int) -> dict[str, int]:
        """Find noise and speech in which a network hears keywords; see :meth:`Tracks.mine`.

        Parameters
        ----------
        posteriors : callable
            Maps levels, shape (n, frames, 1, mels), to posteriors, shape (n, answers, outputs).
        epoch : int

        Returns
        -------
        dict
            Number of places found in noise and in speech.
        """
        keywords = [self.outputs.index(word) for word in self.placing.words.keywords]

        def heard(raw: np.ndarray) -> np.ndarray:
            return posteriors(raw_to_levels(raw, self.config)[:, :, np.newaxis])[:, :, keywords].max(axis=2)

        rng = np.random.default_rng((self.seed, epoch))
        return {"noise": self.noise.mine(heard, rng), "speech": self.speech.mine(heard, rng)}
