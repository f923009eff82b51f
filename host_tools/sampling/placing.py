"""Places single words into sequences: each with its speed, voice, room and microphone, and with where it is said."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from host_tools.config import AugmentConfig, SequenceConfig
from host_tools.data.features import raw_to_power
from host_tools.sampling.augment import equalisation, reverberate, shift_and_stretch
from host_tools.sampling.noise_gate import word_frames
from host_tools.sampling.tracks import Tracks
from host_tools.sampling.words import Words
from kws_edge.config import FrontendConfig
from kws_edge.labels import UNKNOWN

__all__ = ["CUT", "HALF", "OTHER", "Placed", "Placing"]

OTHER, HALF, CUT = -1, -2, -3
"""In place of the index of an output: a word that has none; a half of a keyword; a piece of running speech."""
_WORD_MS = 800.0
"""A sequence gets a word for each such time, as far as there is room."""
_NEAR_MS, _FAR_MS, _FAR_SHARE = (20.0, 300.0), (300.0, 1000.0), 0.5
"""Gaps between words, and the share of long ones."""
_FIRST_MS = (-200.0, 600.0)
_ROOM_MS, _FADE_MS, _TAIL_MS = (30.0, 300.0), (10.0, 60.0), 300.0
"""What is kept before and after a word, how it fades, and the length of a room's tail after the clip."""
_CUT_ROOM = 0.1
"""A piece of running speech keeps so much of that time, because its neighbours are speech."""
_SMOOTH_FRAMES = 3
_GAIN_DB = 4.0
"""Largest gain of a word over the others of its sequence."""
_LOW_BANDS, _HIGH_BANDS, _BAND_DB = 0.15, 0.15, (10.0, 40.0)
"""Largest shares of the bands that a narrow band lacks, and by how much they are weaker."""
_PARTS = (0.3, 0.55)
"""Where a keyword is cut into halves."""
_STOPS = tuple("bdgkpt")
"""Last letters of words that end in a stop."""
_CLOSURE, _CLOSURE_MS, _RELEASE_DB = 0.45, 200.0, 6.0
"""A stop's closure is after this share of its word, and this long before its end. Its release is so much louder."""
_CLOSED_MS, _CLOSING_MS = (0.0, 20.0), (5.0, 20.0)
"""What is kept after a word that ends at a closure, and how it fades."""


@dataclass
class Placed:
    """Sequences of words, without noise."""

    power: np.ndarray
    """Band powers, shape (n, frames, mels), float32."""
    sequence: np.ndarray
    """The sequence of each word, shape (m,)."""
    spans: np.ndarray
    """Frames of each word's start and end, shape (m, 2)."""
    output: np.ndarray
    """The index of each word's output, or :data:`OTHER`, :data:`HALF` or :data:`CUT`, shape (m,)."""
    loudness: np.ndarray
    """Power of the loudest quarter of each word's frames, shape (m,)."""

    def mean_loudness(self) -> np.ndarray:
        """Mean loudness of the words of each sequence, shape (n,); 0 without words."""
        n = len(self.power)
        counts = np.bincount(self.sequence, minlength=n)
        return np.bincount(self.sequence, self.loudness, n) / np.maximum(counts, 1)

    def near(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """The frames that lie in a word, or at most `before` or `after` frames from it; shape (n, frames), bool.

        Parameters
        ----------
        before, after : numpy.ndarray, shape (m,)
        """
        near, time = np.zeros(self.power.shape[:2], bool), np.arange(self.power.shape[1])
        for sequence, (first, last), early, late in zip(self.sequence, self.spans, before, after, strict=True):
            near[sequence] |= (time >= first - early) & (time < last + late)
        return near


class Placing:
    """Draws words and places them.

    Parameters
    ----------
    words : Words
    outputs : tuple of str
        Names of the outputs: the labels, and other words that are told apart in training.
    frames : int
        Length of a sequence.
    sequences : SequenceConfig
    augment : AugmentConfig
        Scaled; see :meth:`AugmentConfig.scaled`.
    speech : Tracks
        Running speech, from which pieces are cut.
    mined : float
        Share of pieces at places where :meth:`Tracks.mine` found a mistake.
    """

    def __init__(
        self,
        words: Words,
        outputs: tuple[str, ...],
        frames: int,
        sequences: SequenceConfig,
        augment: AugmentConfig,
        speech: Tracks,
        mined: float,
    ) -> None:
        self.speech, self.mined = speech, mined
        self.words, self.frames, self.sequences, self.augment = words, frames, sequences, augment
        self.config: FrontendConfig = words.examples.config
        self.index = {name: i for i, name in enumerate(outputs) if name != UNKNOWN}
        self._with_output = [word for word in words.unknown if word in self.index]
        self._per_sequence = max(1, round(frames * self.config.hop_ms / _WORD_MS))

    def place(self, n: int, rng: np.random.Generator) -> Placed:
        """`n` sequences of words.

        Parameters
        ----------
        n : int
        rng : numpy.random.Generator
        """
        spoken = np.flatnonzero(rng.random(n) >= self.sequences.wordless)
        sequence = np.repeat(spoken, self._per_sequence)
        names, output = self._draw(len(sequence), rng)
        power, spans = self._said(names, output, rng)
        closed = self._end_at_closure(names, output, power, spans, rng)
        start = self._times(spoken, spans[:, 1] - spans[:, 0], rng)
        kept = np.flatnonzero(start + spans[:, 1] - spans[:, 0] < self.frames)
        sequence, output, power, spans, closed, start = (
            x[kept] for x in (sequence, output, power, spans, closed, start)
        )
        loudness = np.array([_loudest(one[int(a) : int(b)]) for one, (a, b) in zip(power, spans, strict=True)])
        power = self._varied(power, spans, output, closed, rng)
        gain = 10 ** (rng.uniform(-_GAIN_DB, _GAIN_DB, len(power)) / 10)
        at = np.round(start - spans[:, 0]).astype(np.intp)
        placed = Placed(
            np.zeros((n, self.frames, power.shape[2]), np.float32),
            sequence,
            spans + at[:, np.newaxis],
            output,
            loudness * gain,
        )
        for one, number, first, factor in zip(power, sequence, at, gain.astype(np.float32), strict=True):
            low, high = max(0, first), min(self.frames, first + len(one))
            placed.power[number, low:high] += one[low - first : high - first] * factor
        return placed

    def _draw(self, m: int, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
        """Names of `m` words to say, and the output of each."""
        shares, keywords = self.sequences, self.words.keywords
        with_output, cut = shares.other_share if self._with_output else 0, shares.cut_speech if self.speech else 0
        bounds = np.cumsum([shares.keyword_share, shares.halves, with_output, cut])
        kind = np.searchsorted(bounds, rng.random(m), side="right")
        without = [word for word in self.words.unknown if word not in self.index]
        others = without or self.words.unknown or keywords
        groups = (keywords, keywords, self._with_output, others, others)
        names = [group[rng.integers(len(group))] for group in (groups[k] for k in kind)]
        output = np.array([self.index.get(name, OTHER) for name in names], int)
        output[kind == 1], output[kind == 3] = HALF, CUT
        return names, output

    def _said(self, names: list[str], output: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Powers of words and of pieces of speech at other speeds and pitches, and where in them each is said.

        Where no piece is found that holds no keyword, a word remains, and `output` tells so.
        """
        raw, cut = self.words.draw(names, rng), np.flatnonzero(output == CUT)
        frames, most = raw.shape[1], self.augment.stretch
        if len(cut):
            pieces, bounds = self.speech.cut(len(cut), frames, rng, mined=self.mined)
            cut, left = cut[: len(pieces)], cut[len(pieces) :]
            raw[cut] = pieces
            output[left] = [self.index.get(names[i], OTHER) for i in left]
        speed, pitch = 1 + rng.uniform(-most, most, (2, len(raw)))
        power = raw_to_power(shift_and_stretch(raw, np.zeros(len(raw)), speed, pitch, self.config), self.config)
        spans = np.array([word_frames(one, self.config.hop_ms) for one in power.sum(axis=2)], float).reshape(-1, 2)
        middle = (frames - 1) / 2
        if len(cut):
            spans[cut] = np.clip(middle + (bounds - middle) / speed[cut, np.newaxis], 0, frames)
        return power, spans

    def _end_at_closure(
        self, names: list[str], output: np.ndarray, power: np.ndarray, spans: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Let words end before the release of a final stop, in `spans`. Returns which ones do, shape (m,), bool."""
        closed = np.array([name.endswith(_STOPS) for name in names], bool) & (output != CUT)
        closed &= rng.random(len(closed)) < self.sequences.unreleased
        for i in np.flatnonzero(closed):
            end = _closure(power[i].sum(axis=1), spans[i], self.config.hop_ms)
            closed[i], spans[i, 1] = end is not None, end or spans[i, 1]
        return closed

    def _times(self, spoken: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The frame at which each word starts. Words of a sequence follow one another."""
        shape, hop_ms = (len(spoken), self._per_sequence), self.config.hop_ms
        far = rng.random(shape) < _FAR_SHARE
        gaps = np.where(far, rng.uniform(*_FAR_MS, shape), rng.uniform(*_NEAR_MS, shape)) / hop_ms
        after = np.cumsum(lengths.reshape(shape) + gaps, axis=1)
        first = rng.uniform(*_FIRST_MS, (len(spoken), 1)) / hop_ms
        return (first + np.concatenate([np.zeros_like(first), after[:, :-1]], axis=1)).reshape(-1)

    def _varied(
        self, power: np.ndarray, spans: np.ndarray, output: np.ndarray, closed: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """The words alone, some halved, through other microphones and in rooms; shape (m, frames + tail, mels)."""
        m, frames, mels = power.shape
        settings, hop_ms = self.augment, self.config.hop_ms
        power *= _window(spans, output, closed, frames, hop_ms, rng)[:, :, np.newaxis]
        if settings.equalisation_db:
            power *= equalisation(m, mels, settings.equalisation_db, rng)
        narrow = np.flatnonzero(rng.random(m) < self.sequences.narrow_band)
        power[narrow] *= _narrow_band(len(narrow), mels, rng)
        power = np.pad(power, ((0, 0), (0, round(_TAIL_MS / hop_ms)), (0, 0)))
        in_room = np.flatnonzero(rng.random(m) < settings.reverberation)
        if k := len(in_room):
            rt60, direct = rng.uniform(*settings.rt60_ms, k), rng.uniform(*settings.direct_db, k)
            power[in_room] = reverberate(power[in_room], rt60, direct, hop_ms)
        return power


def _closure(power: np.ndarray, span: np.ndarray, hop_ms: float) -> int | None:
    """The softest frame shortly before the end of a word, if the word gets louder again, as at a stop's release."""
    first, last = (int(one) for one in span)
    smooth = np.convolve(power, np.full(_SMOOTH_FRAMES, 1 / _SMOOTH_FRAMES), "same")[:last]
    earliest = max(first + _CLOSURE * (last - first), last - _CLOSURE_MS / hop_ms)
    closure = int(earliest) + int(smooth[int(earliest) :].argmin())
    return closure if smooth[closure:].max() > 10 ** (_RELEASE_DB / 10) * smooth[closure] else None


def _window(
    spans: np.ndarray, output: np.ndarray, closed: np.ndarray, frames: int, hop_ms: float, rng: np.random.Generator
) -> np.ndarray:
    """Gains of power that keep each word, or a half of it, with some of what is around it; (m, frames), float32."""
    m, half = len(spans), output == HALF
    before, after = rng.uniform(*_ROOM_MS, (2, m)) / hop_ms * np.where(output == CUT, _CUT_ROOM, 1)
    after = np.where(closed, rng.uniform(*_CLOSED_MS, m) / hop_ms, after)
    first, last = spans[:, 0] - before, spans[:, 1] + after
    middle = spans[:, 0] + (spans[:, 1] - spans[:, 0]) * rng.uniform(*_PARTS, m)
    late = rng.random(m) < 0.5
    first, last = np.where(half & late, middle, first), np.where(half & ~late, middle, last)
    fade = np.where(closed, rng.uniform(*_CLOSING_MS, m), rng.uniform(*_FADE_MS, m)) / hop_ms
    time = np.arange(frames)
    ramps = np.minimum(time - first[:, np.newaxis], last[:, np.newaxis] - time) / fade[:, np.newaxis]
    return np.square(np.clip(ramps, 0, 1)).astype(np.float32)


def _narrow_band(n: int, mels: int, rng: np.random.Generator) -> np.ndarray:
    """Gains of power that weaken the lowest and highest bands, as telephones do; shape (n, 1, mels), float32."""
    band = np.arange(mels)
    low = rng.uniform(0, _LOW_BANDS, (n, 1)) * mels
    high = (1 - rng.uniform(0, _HIGH_BANDS, (n, 1))) * mels
    weak = 10 ** (-rng.uniform(*_BAND_DB, (n, 1)) / 10)
    return np.where((band >= low) & (band < high), 1, weak).astype(np.float32)[:, np.newaxis, :]


def _loudest(power: np.ndarray) -> float:
    """Mean power of the loudest quarter of the frames."""
    frames = np.sort(power.sum(axis=1))
    return float(frames[3 * len(frames) // 4 :].mean()) if len(frames) else 0.0
