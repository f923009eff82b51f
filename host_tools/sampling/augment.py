"""Augmentation: of features anew for every batch, and of audio once for copies of clips.

Features are raw levels (see :mod:`host_tools.data.features`) of recordings, or precomputed. In the power domain they
get shift, speed, room response, gain, noise and a noise gate. SpecAugment and mixup follow. Audio gets shift, speed,
room response, gain and noise. Every function draws from the generator that it is given, so a seed reproduces it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from host_tools.config import AugmentConfig
from host_tools.data.features import power_to_raw, raw_to_levels, raw_to_power
from host_tools.sampling.noise_gate import gate_power
from kws_edge.config import FrontendConfig

__all__ = [
    "AudioVariation",
    "augment",
    "bursts",
    "equalisation",
    "mix",
    "mixup",
    "reverberate",
    "room_response",
    "shift_and_stretch",
    "silent_raw",
    "spec_augment",
    "vary_audio",
]


def silent_raw(config: FrontendConfig) -> np.float32:
    """Raw level of digital silence."""
    return np.float32(config.log_gain * np.log(config.log_offset))


def shift_and_stretch(
    raw: np.ndarray, shift: np.ndarray, speed: np.ndarray, pitch: np.ndarray, config: FrontendConfig
) -> np.ndarray:
    """Move, time-stretch and frequency-stretch each example around its centre, by linear interpolation.

    Parameters
    ----------
    raw : numpy.ndarray, shape (n, frames, mels), float32
    shift : numpy.ndarray, shape (n,)
        Frames to the right.
    speed, pitch : numpy.ndarray, shape (n,)
        Factors on the time and the mel scale.

    Returns
    -------
    numpy.ndarray, shape (n, frames, mels), float32
        Frames from outside the clip are digital silence. Bands beyond the edges repeat the edge.
    """
    n, frames, mels = raw.shape
    rows = np.arange(n)[:, np.newaxis]
    centre = (frames - 1) / 2
    t = centre + (np.arange(frames) - centre - shift[:, np.newaxis]) * speed[:, np.newaxis]
    outside = (t < 0) | (t > frames - 1)
    t = np.clip(t, 0, frames - 1)
    low = np.minimum(t.astype(np.intp), frames - 2)
    fraction = (t - low).astype(np.float32)[:, :, np.newaxis]
    moved = _between(raw[rows, low], raw[rows, low + 1], fraction)
    moved[outside] = silent_raw(config)

    m = np.clip(np.arange(mels) * pitch[:, np.newaxis], 0, mels - 1)
    low = np.minimum(m.astype(np.intp), mels - 2)
    fraction = (m - low).astype(np.float32)[:, np.newaxis, :]
    places = np.arange(0, moved.size, mels).reshape(n, frames, 1) + low[:, np.newaxis, :]  # indices of the flat array
    flat = moved.reshape(-1)
    return _between(flat.take(places), flat[1:].take(places), fraction)


def _between(lower: np.ndarray, upper: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    """``lower * (1 - fraction) + upper * fraction``. It overwrites both: new arrays of this size cost page faults."""
    lower *= 1 - fraction
    upper *= fraction
    lower += upper
    return lower


def equalisation(n: int, mels: int, largest_db: float, rng: np.random.Generator) -> np.ndarray:
    """Random gains of power. Five uniform gains lie evenly over the bands, and straight lines in dB connect them.

    Parameters
    ----------
    n : int
        Number of examples.
    mels : int
        Number of bands.
    largest_db : float
        Largest gain in dB, up or down.
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray, shape (n, 1, mels), float32
    """
    knots = rng.uniform(-largest_db, largest_db, (n, 5))
    at = np.linspace(0, 4, mels)
    low = np.minimum(at.astype(np.intp), 3)
    db = knots[:, low] + (knots[:, low + 1] - knots[:, low]) * (at - low)
    return (10 ** (db / 10)).astype(np.float32)[:, np.newaxis, :]


def bursts(n: int, frames: int, hop_ms: float, rng: np.random.Generator) -> np.ndarray:
    """Random gains of power over time, as of a sound that comes up to three times in a window.

    Each burst rises within 10 to 80 ms and fades to 1/e within 30 to 400 ms. The floor between bursts is 10 to 60 dB
    below them.

    Parameters
    ----------
    n : int
        Number of examples.
    frames : int
    hop_ms : float
        Time from frame to frame.
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray, shape (n, frames, 1), float32
    """
    t = np.arange(frames) * hop_ms
    onset = rng.uniform(-0.1, 1.0, (n, 3, 1)) * frames * hop_ms
    since = t - onset
    level = 10 ** (-rng.uniform(0, 1.5, (n, 3, 1)))
    level[:, 1:] *= rng.random((n, 2, 1)) < 0.5
    slope = np.where(since < 0, since / rng.uniform(10, 80, (n, 3, 1)), -since / rng.uniform(30, 400, (n, 3, 1)))
    floor = 10 ** (-rng.uniform(1, 6, (n, 1)))
    return ((level * np.exp(slope)).max(axis=1) + floor).astype(np.float32)[:, :, np.newaxis]


def mix(power: np.ndarray, noise: np.ndarray, snr_db: np.ndarray) -> np.ndarray:
    """Add noise at a given signal-to-noise ratio.

    The signal's power is that of the loudest quarter of its frames. So a short word counts like a long one.

    Parameters
    ----------
    power, noise : numpy.ndarray, shape (n, frames, mels)
        Band powers.
    snr_db : numpy.ndarray, shape (n,)
        Infinity adds nothing.
    """
    per_frame = power.sum(axis=2)
    kth = (3 * per_frame.shape[1]) // 4
    signal = np.partition(per_frame, kth, axis=1)[:, kth:].mean(axis=1)
    level = noise.sum(axis=2).mean(axis=1) + np.float32(1e-9)
    factor = signal / level * (10 ** (-snr_db / 10)).astype(np.float32)
    mixed = noise * factor[:, np.newaxis, np.newaxis]
    mixed += power
    return mixed


def spec_augment(levels: np.ndarray, rng: np.random.Generator, settings: AugmentConfig, hop_ms: float) -> np.ndarray:
    """Set spans of time and frequency to the example's mean, in place (Park et al., SpecAugment, 2019)."""
    n, frames, mels = levels.shape
    masked = np.zeros(levels.shape, bool)
    for axis, count, size, length in (
        (1, settings.time_masks, round(settings.time_mask_ms / hop_ms), frames),
        (2, settings.frequency_masks, round(settings.frequency_mask_share * mels), mels),
    ):
        position = np.arange(length)
        for _ in range(count):
            width = rng.integers(0, size + 1, (n, 1))
            start = (rng.random((n, 1)) * (length - width + 1)).astype(np.intp)
            span = (position >= start) & (position < start + width)
            masked |= span[:, :, np.newaxis] if axis == 1 else span[:, np.newaxis, :]
    np.copyto(levels, levels.mean(axis=(1, 2), keepdims=True), where=masked)
    return levels


def reverberate(power: np.ndarray, rt60_ms: np.ndarray, direct_db: np.ndarray, hop_ms: float) -> np.ndarray:
    """Add a room's late response in the power domain. Each frame's power decays exponentially into later frames.

    Source: the statistical model of late reverberation of Lebart, Boucher and Denbigh, 2001.

    Parameters
    ----------
    power : numpy.ndarray, shape (n, frames, mels)
        Band powers.
    rt60_ms : numpy.ndarray, shape (n,)
        Time in which the response decays by 60 dB.
    direct_db : numpy.ndarray, shape (n,)
        Ratio in dB of the direct sound's power to that of the response.
    """
    kept = 10 ** (-6 * hop_ms / rt60_ms)
    gain = (10 ** (-direct_db / 10) * (1 - kept) / kept).astype(np.float32)[:, np.newaxis]
    decay = kept.astype(np.float32)[:, np.newaxis]
    out, tail = power.copy(), np.zeros_like(power[:, 0])
    for t in range(1, power.shape[1]):
        tail += power[:, t - 1]
        tail *= decay
        out[:, t] += gain * tail
    return out


def mixup(
    levels: np.ndarray, targets: np.ndarray, rng: np.random.Generator, alpha: float
) -> tuple[np.ndarray, np.ndarray]:
    """Blend each example, and its target, with another of the batch (Zhang et al., mixup, 2018).

    Parameters
    ----------
    levels : numpy.ndarray, shape (n, frames, mels)
    targets : numpy.ndarray, shape (n, n_labels)
    rng : numpy.random.Generator
    alpha : float
        The share of the example itself is drawn from Beta(alpha, alpha). It is at least a half.
    """
    share = rng.beta(alpha, alpha, len(levels)).astype(np.float32)
    share = np.maximum(share, 1 - share)
    other = rng.permutation(len(levels))
    blend = share[:, np.newaxis, np.newaxis]
    levels = levels * blend + levels[other] * (1 - blend)
    return levels, targets * share[:, np.newaxis] + targets[other] * (1 - share[:, np.newaxis])


def augment(
    raw: np.ndarray,
    noise: np.ndarray,
    rng: np.random.Generator,
    config: FrontendConfig,
    settings: AugmentConfig,
    *,
    gain_only: np.ndarray | None = None,
    least_snr_db: np.ndarray | float = -np.inf,
) -> np.ndarray:
    """Augmented output levels of a batch.

    Parameters
    ----------
    raw, noise : numpy.ndarray, shape (n, frames, mels), float32
        Raw levels of the examples, and of one noise window for each.
    gain_only : numpy.ndarray, shape (n,), bool, optional
        Examples that are noise themselves. They keep their level and get no further noise.
    least_snr_db : numpy.ndarray, shape (n,), or float
        Lower bound of each signal-to-noise ratio in dB.

    Returns
    -------
    numpy.ndarray, shape (n, frames, mels), float32
    """
    n = len(raw)
    keep = np.zeros(n, bool) if gain_only is None else gain_only
    shift = rng.uniform(-settings.shift_ms, settings.shift_ms, n) / config.hop_ms
    shift[keep] = 0
    speed = 1 + rng.uniform(-settings.stretch, settings.stretch, n)
    pitch = 1 + rng.uniform(-settings.stretch, settings.stretch, n)
    power = raw_to_power(shift_and_stretch(raw, shift, speed, pitch, config), config)
    if settings.reverberation:
        in_room = ~keep & (rng.random(n) < settings.reverberation)
        rt60, direct = rng.uniform(*settings.rt60_ms, n), rng.uniform(*settings.direct_db, n)
        power[in_room] = reverberate(power[in_room], rt60[in_room], direct[in_room], config.hop_ms)
    gain = rng.uniform(*settings.gain_db, n)
    gain[keep] = 0
    snr = np.maximum(rng.uniform(*settings.snr_db, n), least_snr_db)
    snr[keep | (rng.random(n) >= settings.noise_share)] = np.inf
    noise = raw_to_power(noise, config)
    if settings.equalisation_db:
        power[~keep] *= equalisation(int((~keep).sum()), config.n_mels, settings.equalisation_db, rng)
        noise *= equalisation(n, config.n_mels, settings.equalisation_db, rng)
    word = power.sum(axis=2)
    power = mix(power, noise, snr)
    if settings.gated:
        behind = ~keep & (rng.random(n) < settings.gated)
        part, hold = power[behind], rng.uniform(*settings.hold_ms, n)
        gate_power(part, word[behind], hold[behind], config.hop_ms)
        power[behind] = part
    power *= (10 ** (gain / 10)).astype(np.float32)[:, np.newaxis, np.newaxis]
    levels = raw_to_levels(power_to_raw(power, config), config)
    return spec_augment(levels, rng, settings, config.hop_ms)


def room_response(rng: np.random.Generator, sample_rate: int, rt60_ms: float, direct_db: float) -> np.ndarray:
    """A synthetic room impulse response of a direct path and exponentially decaying noise (Polack's model, 1988).

    Parameters
    ----------
    rng : numpy.random.Generator
    sample_rate : int
        In Hz.
    rt60_ms : float
        Time in which the response decays by 60 dB. There it ends.
    direct_db : float
        Ratio in dB of the direct sound's power to that of the rest.

    Returns
    -------
    numpy.ndarray, shape (n,), float64
        The first sample is the direct path, 1.
    """
    n = max(2, round(sample_rate * rt60_ms / 1000))
    tail = rng.standard_normal(n) * 10 ** (-3 * np.arange(n) / n)
    tail[0] = 0
    tail *= 10 ** (-direct_db / 20) / np.sqrt(np.square(tail).sum())
    tail[0] = 1
    return tail


def vary_audio(
    samples: np.ndarray,
    rng: np.random.Generator,
    sample_rate: int,
    settings: AugmentConfig,
    noise: np.ndarray | None = None,
) -> np.ndarray:
    """A copy of a recording with varied speed (and with it pitch), shift, room response, gain and noise.

    Parameters
    ----------
    samples : numpy.ndarray, shape (n,), int16
    rng : numpy.random.Generator
    sample_rate : int
        In Hz.
    settings : AugmentConfig
    noise : numpy.ndarray, shape (at least n,), int16, optional
        A random part of it is added. The signal-to-noise ratio is that of the recording's loudest quarter.

    Returns
    -------
    numpy.ndarray, shape (n,), int16
    """
    from scipy.signal import oaconvolve

    n = len(samples)
    speed = 1 + rng.uniform(-settings.stretch, settings.stretch)
    shift = rng.uniform(-settings.shift_ms, settings.shift_ms) * sample_rate / 1000
    position = (np.arange(n) - n / 2 - shift) * speed + n / 2
    x = np.interp(position, np.arange(n), samples, left=0, right=0)
    if rng.random() < settings.reverberation:
        room = room_response(rng, sample_rate, rng.uniform(*settings.rt60_ms), rng.uniform(*settings.direct_db))
        x = oaconvolve(x, room)[:n]
    if noise is not None and rng.random() < settings.noise_share:
        at = rng.integers(len(noise) - n + 1)
        added = noise[at : at + n].astype(np.float64)
        loud = np.sort(np.square(x[: n // 16 * 16]).reshape(-1, 16).mean(axis=1))[-max(1, n // 64) :].mean()
        ratio = 10 ** (-rng.uniform(*settings.snr_db) / 10)
        x = x + added * np.sqrt(loud * ratio / (np.square(added).mean() + 1e-9))
    x = x * 10 ** (rng.uniform(*settings.gain_db) / 20)
    return np.clip(np.round(x), -32768, 32767).astype(np.int16)


@dataclass(frozen=True, kw_only=True)
class AudioVariation:
    """:func:`vary_audio` for the clips of a dataset. Each copy of each clip has its own seed."""

    settings: AugmentConfig
    sample_rate: int
    seed: int
    copy: int

    def __call__(self, samples: np.ndarray, number: int) -> np.ndarray:
        return vary_audio(
            samples, np.random.default_rng((self.seed, self.copy, number)), self.sample_rate, self.settings
        )
