"""Augmentation of features: shift, speed, gain and noise in the power domain, then SpecAugment.

Everything works on raw levels (see :mod:`host_tools.features`), in batches, and draws from the generator that it is
given, so that a seed reproduces a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from host_tools.features import power_to_raw, raw_to_levels, raw_to_power
from kws_edge.config import FrontendConfig

__all__ = ["AugmentConfig", "augment", "mix", "shift_and_stretch", "silent_raw", "spec_augment"]


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How strongly training examples are varied. Durations in milliseconds, levels in decibels."""

    shift_ms: float = 100.0
    """Largest shift to either side, uniform."""
    stretch: float = 0.12
    """Largest relative change of speed, and of the frequency scale, each uniform."""
    gain_db: tuple[float, float] = (-15.0, 8.0)
    """Range of the gain, uniform."""
    noise_probability: float = 0.6
    """Share of examples that get noise."""
    snr_db: tuple[float, float] = (0.0, 40.0)
    """Range of the signal-to-noise ratio, uniform."""
    time_masks: int = 2
    time_mask_ms: float = 120.0
    """Longest time mask."""
    frequency_masks: int = 2
    frequency_mask_share: float = 0.12
    """Widest frequency mask, as a share of the bands."""


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
        What comes from outside the clip is digital silence; bands beyond the edges repeat the edge.
    """
    n, frames, mels = raw.shape
    rows = np.arange(n)[:, np.newaxis]
    centre = (frames - 1) / 2
    t = centre + (np.arange(frames) - centre - shift[:, np.newaxis]) * speed[:, np.newaxis]
    outside = (t < 0) | (t > frames - 1)
    t = np.clip(t, 0, frames - 1)
    low = np.minimum(t.astype(np.intp), frames - 2)
    fraction = (t - low).astype(np.float32)[:, :, np.newaxis]
    moved = raw[rows, low] * (1 - fraction) + raw[rows, low + 1] * fraction
    moved[outside] = silent_raw(config)

    m = np.clip(np.arange(mels) * pitch[:, np.newaxis], 0, mels - 1)
    low = np.minimum(m.astype(np.intp), mels - 2)
    fraction = (m - low).astype(np.float32)[:, np.newaxis, :]
    lower = np.take_along_axis(moved, low[:, np.newaxis, :], axis=2)
    upper = np.take_along_axis(moved, low[:, np.newaxis, :] + 1, axis=2)
    return lower * (1 - fraction) + upper * fraction


def mix(power: np.ndarray, noise: np.ndarray, snr_db: np.ndarray) -> np.ndarray:
    """Add noise at a given signal-to-noise ratio.

    The signal's power is that of its louder frames (the upper quarter), so that a short word counts like a long one.

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
    return power + noise * factor[:, np.newaxis, np.newaxis]


def spec_augment(levels: np.ndarray, rng: np.random.Generator, settings: AugmentConfig, hop_ms: float) -> np.ndarray:
    """Set spans of time and of frequency to the example's mean, in place (Park et al., SpecAugment, 2019)."""
    n, frames, mels = levels.shape
    masked = np.zeros(levels.shape, bool)
    for axis, count, size, length in (
        (1, settings.time_masks, max(1, round(settings.time_mask_ms / hop_ms)), frames),
        (2, settings.frequency_masks, max(1, round(settings.frequency_mask_share * mels)), mels),
    ):
        position = np.arange(length)
        for _ in range(count):
            width = rng.integers(0, size + 1, n)[:, np.newaxis]
            start = (rng.random((n, 1)) * (length - width + 1)).astype(np.intp)
            span = (position >= start) & (position < start + width)
            masked |= span[:, :, np.newaxis] if axis == 1 else span[:, np.newaxis, :]
    np.copyto(levels, levels.mean(axis=(1, 2), keepdims=True), where=masked)
    return levels


def augment(
    raw: np.ndarray,
    noise: np.ndarray,
    rng: np.random.Generator,
    config: FrontendConfig,
    settings: AugmentConfig,
    *,
    gain_only: np.ndarray | None = None,
) -> np.ndarray:
    """Augmented output levels of a batch.

    Parameters
    ----------
    raw, noise : numpy.ndarray, shape (n, frames, mels), float32
        Raw levels of the examples, and of one noise window for each.
    gain_only : numpy.ndarray, shape (n,), bool, optional
        Examples that are noise themselves and come with their level set: they keep it, and get no further noise.

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
    gain = rng.uniform(*settings.gain_db, n)
    gain[keep] = 0
    snr = rng.uniform(*settings.snr_db, n)
    snr[keep | (rng.random(n) >= settings.noise_probability)] = np.inf
    power = mix(power, raw_to_power(noise, config), snr)
    power *= (10 ** (gain / 10)).astype(np.float32)[:, np.newaxis, np.newaxis]
    levels = raw_to_levels(power_to_raw(power, config), config)
    return spec_augment(levels, rng, settings, config.hop_ms)
