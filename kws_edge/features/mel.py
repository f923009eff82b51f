"""Analysis windows and mel filter banks.

Tables are computed in double precision and cast once, so that training, device and firmware have the same tables.
They use Python's floats, because NumPy's cosine and logarithm may depend on the processor.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from kws_edge.config import FrontendConfig
from kws_edge.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["mel_matrix", "used_bins", "window"]

_SLANEY_BREAK_HZ = 1000.0
_SLANEY_HZ_PER_MEL = 200.0 / 3
_SLANEY_LOG_STEP = math.log(6.4) / 27


def _hz_to_mel(hz: float, scale: str) -> float:
    if scale == "htk":
        # HTK book, section 5.4: 2595 log10(1 + f/700), in the form of tf.signal.
        return 1127.0 * math.log1p(hz / 700.0)
    # Slaney, Auditory Toolbox (1998): linear below 1 kHz, then 27 steps for each factor of 6.4.
    if hz < _SLANEY_BREAK_HZ:
        return hz / _SLANEY_HZ_PER_MEL
    return _SLANEY_BREAK_HZ / _SLANEY_HZ_PER_MEL + math.log(hz / _SLANEY_BREAK_HZ) / _SLANEY_LOG_STEP


def mel_matrix(config: FrontendConfig) -> NDArray[np.float32]:
    """Mel filter bank of `config`.

    Bands are triangles on the mel scale with peak 1, without area normalisation. Bin 0 (DC) belongs to no band. For the
    HTK scale, the matrix equals ``tf.signal.linear_to_mel_weight_matrix`` computed in float64.

    Returns
    -------
    numpy.ndarray, shape (n_fft // 2 + 1, n_mels), float32
    """
    n_bins, n_mels = config.n_fft // 2 + 1, config.n_mels
    lowest, highest = (_hz_to_mel(hz, config.mel_scale) for hz in (config.f_min_hz, config.f_max_hz))
    step = (highest - lowest) / (n_mels + 1)
    edges = [lowest + i * step for i in range(n_mels + 1)] + [highest]
    matrix = np.zeros((n_bins, n_mels), np.float32)
    below = 0  # number of edges at or below the bin
    for k in range(1, n_bins):
        mel = _hz_to_mel(k * config.sample_rate / 2 / (n_bins - 1), config.mel_scale)
        while below < len(edges) and edges[below] <= mel:
            below += 1
        for band in range(max(0, below - 2), min(below, n_mels)):  # between its edges `band` and `band + 2`
            lower, centre, upper = edges[band : band + 3]
            matrix[k, band] = max(0.0, min((mel - lower) / (centre - lower), (upper - mel) / (upper - centre)))
    return matrix


def window(config: FrontendConfig) -> NDArray[np.float64]:
    """Periodic analysis window of `config`, without scaling.

    Returns
    -------
    numpy.ndarray, shape (frame_length,), float32
    """
    a, n = {"hann": 0.5, "hamming": 0.54}[config.window], config.frame_length
    return np.array([a - (1 - a) * math.cos(2 * math.pi * i / n) for i in range(n)], np.float32)


def used_bins(matrix: NDArray[Any], config: FrontendConfig) -> slice:
    """The bins of the transform that mel bands use.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (n_bins, n_mels)
        Filter bank of `config`.

    Raises
    ------
    ConfigError
        If there are none.
    """
    used = np.flatnonzero(matrix.any(axis=1))
    if not len(used):
        raise ConfigError(
            f"no FFT bin falls into any band of {config.f_min_hz:g} to {config.f_max_hz:g} Hz; raise n_fft or widen "
            "the band"
        )
    return slice(int(used[0]), int(used[-1]) + 1)
