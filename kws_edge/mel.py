"""Analysis windows and mel filter banks, computed in float64 and cast once, so that every side has the same tables."""

from __future__ import annotations

import numpy as np

from kws_edge.config import FrontendConfig

__all__ = ["mel_matrix", "window"]

_SLANEY_BREAK_HZ = 1000.0
_SLANEY_HZ_PER_MEL = 200.0 / 3
_SLANEY_LOG_STEP = np.log(6.4) / 27


def _hz_to_mel(hz: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":
        # HTK book, section 5.4: 2595 log10(1 + f/700), written as tf.signal writes it.
        return 1127.0 * np.log1p(hz / 700.0)
    # Slaney, Auditory Toolbox (1998): linear below 1 kHz, then 27 steps for each factor of 6.4.
    above = _SLANEY_BREAK_HZ / _SLANEY_HZ_PER_MEL + np.log(np.maximum(hz, 1e-9) / _SLANEY_BREAK_HZ) / _SLANEY_LOG_STEP
    return np.where(hz < _SLANEY_BREAK_HZ, hz / _SLANEY_HZ_PER_MEL, above)


def mel_matrix(config: FrontendConfig) -> np.ndarray:
    """Mel filter bank of `config`.

    Triangles on the mel scale with peak 1 and no area normalisation; bin 0 (DC) belongs to no band. Equal to
    ``tf.signal.linear_to_mel_weight_matrix`` computed in float64, for the HTK scale.

    Returns
    -------
    numpy.ndarray, shape (n_fft // 2 + 1, n_mels), float32
    """
    n_bins = config.n_fft // 2 + 1
    bins = _hz_to_mel(np.linspace(0.0, config.sample_rate / 2, n_bins)[1:], config.mel_scale)
    limits = np.array([config.f_min_hz, config.f_max_hz])
    edges = np.linspace(*_hz_to_mel(limits, config.mel_scale), config.n_mels + 2)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    matrix = np.zeros((n_bins, config.n_mels), np.float32)
    for band in range(config.n_mels):
        rising = (bins - lower[band]) / (centre[band] - lower[band])
        falling = (upper[band] - bins) / (upper[band] - centre[band])
        matrix[1:, band] = np.maximum(0.0, np.minimum(rising, falling))
    return matrix


def window(config: FrontendConfig) -> np.ndarray:
    """Periodic analysis window of `config`, not scaled.

    Returns
    -------
    numpy.ndarray, shape (frame_length,), float32
    """
    a = {"hann": 0.5, "hamming": 0.54}[config.window]
    phase = 2 * np.pi * np.arange(config.frame_length) / config.frame_length
    return (a - (1 - a) * np.cos(phase)).astype(np.float32)
