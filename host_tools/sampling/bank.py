"""Banks of recordings without keywords, from which windows of noise and speech are drawn, as recorded or varied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from host_tools.data.features import power_to_raw, raw_to_power
from host_tools.sampling.augment import bursts, equalisation, mix, shift_and_stretch, silent_raw
from kws_edge.config import FrontendConfig

__all__ = ["SPEECH_STRETCH", "Bank", "one_side", "quietest", "stretched", "windows"]

_NOISE_SPAN_DB = 40.0
_NOISE_GAIN_DB = 10.0
"""Silence examples reach from this far below the noise's level to this far above it, besides digital silence."""
_NOISE_STRETCH, SPEECH_STRETCH, _NOISE_EQUALISATION_DB = 0.4, 0.2, 12.0
"""Largest changes of varied noise and speech: relative change of speed and frequency, and gain of bands."""


@dataclass
class Bank:
    """Recordings without keywords, as raw levels, from which windows of a clip's length are drawn.

    All groups, such as recorded and synthetic speech, are drawn equally often, whatever their size.
    """

    frames: int
    silence: float
    """Raw level of digital silence."""
    groups: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    """The recordings of each group, joined end to end, and the frames at which windows may start."""

    def add(
        self, recordings: Sequence[np.ndarray], without: Sequence[Sequence[tuple[float, float]]] | None = None
    ) -> int:
        """Add a group of recordings. Returns the number of frames taken.

        Each window of a recording that is shorter than a window holds it whole, at any place. A longer recording gets
        silence before and after it, as streams begin and speakers pause. At most three fifths of a window are silence.

        Parameters
        ----------
        recordings : sequence of numpy.ndarray, shape (frames, mels)
            Raw levels.
        without : sequence, optional
            Spans of each recording, in frames. Windows whose middle lies in a span are left out.
        """
        long, starts, end, taken = [], [], 0, 0
        for recording, spans in zip(recordings, without or [()] * len(recordings), strict=True):
            if not len(recording):
                continue
            n = max(3 * self.frames // 5 if len(recording) > self.frames else 0, self.frames - len(recording))
            padded = np.pad(recording, ((n, n), (0, 0)), constant_values=self.silence) if n else recording
            own = np.arange(len(padded) - self.frames + 1)
            middle = np.clip(own - n + self.frames / 2, 0, len(recording))
            for first, last in spans:
                own, middle = (x[(middle < first) | (middle > last)] for x in (own, middle))
            long.append(padded)
            starts.append(end + own)
            end += len(padded)
            taken += len(recording)
        if not sum(map(len, starts)):
            return 0
        self.groups.append((np.concatenate(long), np.concatenate(starts)))
        return taken

    def __bool__(self) -> bool:
        return bool(self.groups)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """`n` random windows, shape (n, frames, mels), float32."""
        group = rng.integers(len(self.groups), size=n)
        out = np.empty((n, self.frames, self.groups[0][0].shape[1]), np.float32)
        for i, (levels, starts) in enumerate(self.groups):
            own = group == i
            out[own] = levels[rng.choice(starts, int(own.sum()))[:, np.newaxis] + np.arange(self.frames)]
        return out


def windows(
    noise: Bank, n: int, rng: np.random.Generator, config: FrontendConfig, *, variety: float = 0.0
) -> np.ndarray:
    """Examples of silence: noise at random volumes, and some digital silence.

    Most volumes come from U(0, 1), as in the official test set. Others reach from far below to above the recorded
    level. The share `variety` of the noise gets another speed and pitch, and other bands. Half of it comes in bursts,
    and half of it lies over another noise.

    Parameters
    ----------
    noise : Bank
    n : int
        Number of examples.
    rng : numpy.random.Generator
    config : FrontendConfig
    variety : float
        Share of the examples that are varied.

    Returns
    -------
    numpy.ndarray, shape (n, frames, mels), float32
        Raw levels.
    """
    raw = noise.draw(n, rng)
    varied = np.flatnonzero(rng.random(n) < variety) if variety else np.empty(0, np.intp)
    if len(varied):
        raw[varied] = stretched(raw[varied], _NOISE_STRETCH, rng, config)
    power = raw_to_power(raw, config)
    if len(varied):
        power[varied] *= equalisation(len(varied), config.n_mels, _NOISE_EQUALISATION_DB, rng)
        some = varied[rng.random(len(varied)) < 0.5]
        power[some] *= bursts(len(some), config.n_frames, config.hop_ms, rng)
        some = varied[rng.random(len(varied)) < 0.5]
        power[some] = mix(
            power[some], raw_to_power(noise.draw(len(some), rng), config), rng.uniform(-10, 20, len(some))
        )
    volume = np.where(rng.random(n) < 0.6, rng.random(n), 10 ** (rng.uniform(-_NOISE_SPAN_DB, _NOISE_GAIN_DB, n) / 20))
    power *= (volume**2).astype(np.float32)[:, np.newaxis, np.newaxis]
    raw = power_to_raw(power, config)
    raw[rng.random(n) < 0.05] = silent_raw(config)
    return raw


def quietest(raw: np.ndarray, config: FrontendConfig) -> np.ndarray:
    """The noise of each example's microphone: its quietest 300 ms, repeated forwards and backwards to its length.

    Parameters
    ----------
    raw : numpy.ndarray, shape (n, frames, mels), float32
        Raw levels.

    Returns
    -------
    numpy.ndarray, shape (n, frames, mels), float32
    """
    n, frames, _ = raw.shape
    span = min(frames, round(300 / config.hop_ms))
    summed = np.cumsum(np.pad(raw.mean(axis=2), ((0, 0), (1, 0))), axis=1)
    start = (summed[:, span:] - summed[:, :-span]).argmin(axis=1)
    at = np.arange(frames) % (2 * span)
    at = np.where(at < span, at, 2 * span - 1 - at)
    return raw[np.arange(n)[:, np.newaxis], start[:, np.newaxis] + at]


def one_side(raw: np.ndarray, numbers: np.ndarray, rng: np.random.Generator, config: FrontendConfig) -> None:
    """Set these examples to digital silence before or after a random time, in place.

    In streams, recordings begin and end, and noise gates open and close on noise.
    """
    time, at = np.arange(raw.shape[1]), rng.integers(raw.shape[1], size=(len(numbers), 1))
    silent = np.where(rng.random((len(numbers), 1)) < 0.5, time < at, time > at)
    raw[numbers] = np.where(silent[:, :, np.newaxis], silent_raw(config), raw[numbers])


def stretched(raw: np.ndarray, most: float, rng: np.random.Generator, config: FrontendConfig) -> np.ndarray:
    """Examples with speed and pitch changed by up to `most`, as a relative change, each by itself."""
    speed, pitch = 1 + rng.uniform(-most, most, (2, len(raw)))
    return shift_and_stretch(raw, np.zeros(len(raw)), speed, pitch, config)
