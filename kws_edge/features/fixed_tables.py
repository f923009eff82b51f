"""Tables of TensorFlow Lite Micro's microfrontend in fixed point.

They are computed in single precision, as its C code does, and rounded to integers. They use Python's functions, which
round alike on every processor. The logarithm in the mel scale is the exception: see :func:`log1p`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import numpy as np

from kws_edge.config import FrontendConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FILTER_BITS", "GAIN_BITS", "WINDOW_BITS", "bank", "gains", "log1p", "logarithms", "window"]

WINDOW_BITS, FILTER_BITS, GAIN_BITS = 12, 12, 21
"""Fractional bits of the window, of the weights in the mel filters, and of the gain."""
_STRENGTH, _OFFSET = np.float32(0.95), np.float32(80)
_LARGEST_GAIN = 32767
_SEGMENTS = 128

_F = cast("Callable[..., np.float32]", np.float32)
_LN2_HIGH, _LN2_LOW = _F(6.9313812256e-01), _F(9.0580006145e-06)
_SERIES = tuple(
    map(
        _F,
        (
            6.6666668653e-01,
            4.0000000596e-01,
            2.8571429849e-01,
            2.2222198546e-01,
            1.8183572590e-01,
            1.5313838422e-01,
            1.4798198640e-01,
        ),
    )
)
"""``log(1 + f) = 2s + s z (L1 + z (L2 + ...))`` with ``s = f / (2 + f)`` and ``z = s ** 2``."""


def log1p(x: np.float32) -> np.float32:
    """``log1pf`` of positive `x`, to the last bit as the C libraries of microcontrollers and of older Linux round it.

    These are newlib, and glibc before version 2.41. Others round four weights of the mel filters differently.
    """
    if x < _F(0.41421356):
        k, f, lost = 0, x, _F(0)
    else:
        u = _F(_F(1) + x)
        mantissa, exponent = math.frexp(float(u))
        k = exponent - 1
        lost = _F((_F(1) - _F(u - x) if k else x - _F(u - _F(1))) / u)  # what 1 + x lost by rounding
        f = _F(_F(2 * mantissa) - _F(1))
        if mantissa >= 0.70710678:
            k, f = k + 1, _F(_F(mantissa) - _F(1))
    half_square = _F(_F(0.5) * f * f)
    s = _F(f / _F(_F(2) + f))
    z = _F(s * s)
    r = _F(0)
    for factor in reversed(_SERIES):
        r = _F(z * _F(factor + r))
    if not k:
        return _F(f - _F(half_square - _F(s * _F(half_square + r))))
    lost = _F(lost + _F(_F(k) * _LN2_LOW))
    tail = _F(half_square - _F(_F(s * _F(half_square + r)) + lost))
    return _F(_F(_F(k) * _LN2_HIGH) - _F(tail - f))


def _mel(hz: np.float32) -> np.float32:
    return _F(_F(1127) * log1p(_F(hz / _F(700))))


def window(config: FrontendConfig) -> NDArray[np.int32]:
    """Hann window with its first sample half a sample from zero, in Q12, shape (frame_length,)."""
    step = _F(_F(_F(math.pi) * _F(2)) / _F(config.frame_length))
    cosines = (_F(math.cos(step * _F(i + 0.5))) for i in range(config.frame_length))
    return np.array([_rounded(_F(_F(0.5) - _F(_F(0.5) * x)), WINDOW_BITS) for x in cosines], np.int32)


def _rounded(value: np.float32, bits: int) -> int:
    return math.floor(_F(_F(value * _F(1 << bits)) + _F(0.5)))


def bank(config: FrontendConfig) -> NDArray[np.float64]:
    """Triangles on the HTK mel scale, in Q12, shape (n_fft // 2, n_mels). Bin 0 belongs to no band.

    A bin's two weights are each rounded. The weights are float64, because all sums of them are exact there, and because
    NumPy multiplies matrices of integers slowly.
    """
    lowest, highest = _mel(_F(config.f_min_hz)), _mel(_F(config.f_max_hz))
    step = _F(_F(highest - lowest) / _F(config.n_mels + 1))
    centres = [lowest, *(_F(lowest + _F(step * _F(i + 1))) for i in range(config.n_mels + 1))]
    bins = config.n_fft // 2
    bin_hz = _F(_F(_F(0.5) * _F(config.sample_rate)) / _F(bins))
    weights = np.zeros((bins, config.n_mels + 2))  # the first and the last column are halves of no band
    side = 0  # the bin lies between centres `side` and `side + 1`
    for k in range(int(_F(_F(1.5) + _F(_F(config.f_min_hz) / bin_hz))), bins):
        mel = _mel(_F(_F(k) * bin_hz))
        while side <= config.n_mels and mel > centres[side + 1]:
            side += 1
        if side > config.n_mels:
            break
        below = _F(_F(centres[side + 1] - mel) / _F(centres[side + 1] - centres[side]))
        weights[k, side : side + 2] = _rounded(below, FILTER_BITS), _rounded(_F(_F(1) - below), FILTER_BITS)
    return weights[:, 1:-1]


def gains(noise_bits: int) -> NDArray[np.int64]:
    """Gain of PCAN by the number of bits of the noise estimate, shape (33, 3).

    A row has the gain at the smallest such number, and two coefficients of a parabola up to the next row.

    Parameters
    ----------
    noise_bits : int
        Fractional bits of the estimate.
    """

    def gain(estimate: int) -> int:
        noise = _F(_F(_F(estimate) / _F(1 << noise_bits)) + _OFFSET)
        exact = _F(_F(1 << GAIN_BITS) * _F(float(noise) ** -float(_STRENGTH)))
        return min(_LARGEST_GAIN, int(_F(exact + _F(0.5))))

    table = np.zeros((33, 3), np.int64)
    table[0, 0], table[1, 0] = gain(0), gain(1)
    for bits in range(2, 33):
        start = 1 << (bits - 1)
        first, middle, last = (gain(min(x, 2**32 - 1)) for x in (start, start + start // 2, 2 * start))
        slope = 4 * (middle - first) - (last - first)
        table[bits] = first, slope, last - first - slope
    return table


def logarithms() -> NDArray[np.int64]:
    """``log2(1 + x) - x`` in Q16 at 128 steps from 0 to 1, and a last entry for interpolation, shape (130,)."""
    steps = (i / _SEGMENTS for i in range(_SEGMENTS + 1))
    values = [round((math.log2(1 + x) - x) * 65536) for x in steps]
    return cast("NDArray[np.int64]", np.array([*values, 0], np.int64))
