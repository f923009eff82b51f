"""A real FFT in 16-bit fixed point, which rounds where KISS FFT does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FixedFft", "twiddles"]

_ONE = 32767  # 1 in Q15
_HALF = 1 << 14  # half of the last place of a product in Q15


def twiddles(phases: Sequence[float]) -> NDArray[np.int32]:
    """``exp(i phase)`` in Q15, shape (2, n): real and imaginary parts."""
    return np.array(
        [[math.floor(0.5 + _ONE * part(phase)) for phase in phases] for part in (math.cos, math.sin)], np.int32
    )


def _rounded(products: NDArray[np.int32]) -> NDArray[np.int32]:
    """Products in Q15 as 16-bit values, in place."""
    products += _HALF
    products >>= 15
    return products


def _multiplied(a: NDArray[np.int32], b: NDArray[np.int32]) -> NDArray[np.int32]:
    """Complex product. The first axes are the real and the imaginary parts."""
    out = np.empty(a.shape, np.int32)
    np.multiply(a[0], b[0], out=out[0])
    out[0] -= a[1] * b[1]
    np.multiply(a[0], b[1], out=out[1])
    out[1] += a[1] * b[0]
    return _rounded(out)


class FixedFft:
    """The real FFT of 16-bit samples, divided by its length.

    A complex FFT of half the length takes even samples as real parts and odd ones as imaginary parts. Its steps have
    radix 4, and the first one has radix 2 if it must. Each step divides its input by the radix and rounds, so that 16
    bits suffice. Frames are the last axis, so that each operation runs through long rows.

    Parameters
    ----------
    n : int
        Length, a power of two from 16 on.

    Examples
    --------
    >>> import numpy as np
    >>> from kws_edge.features.fixed_fft import FixedFft
    >>> tone = np.rint(16000 * np.cos(2 * np.pi * 5 * np.arange(64) / 64)).astype(np.int32)
    >>> FixedFft(64)(tone[:, np.newaxis])[0, 3:8, 0]
    array([   0,    0, 7997,    0,    0], dtype=int32)
    """

    def __init__(self, n: int) -> None:
        self._half = half = n // 2
        self._steps: list[tuple[int, int, NDArray[np.int32]]] = []
        done = 1  # length of the transforms so far
        while done < half:
            radix = 2 if done == 1 and (half.bit_length() - 1) % 2 else 4
            at = [-2 * math.pi * u * j / (radix * done) for u in range(done) for j in range(1, radix)]
            self._steps.append((radix, done, twiddles(at).reshape(2, done, radix - 1, 1)))
            done *= radix
        self._last = twiddles([-math.pi * ((k + 1) / half + 0.5) for k in range(half // 2)])[:, :, np.newaxis]

    def __call__(self, samples: NDArray[np.int32]) -> NDArray[np.int32]:
        """Transform frames.

        Parameters
        ----------
        samples : numpy.ndarray, shape (n, frames), int32
            Values of 16 bits.

        Returns
        -------
        numpy.ndarray, shape (2, n // 2, frames), int32
            Real and imaginary parts of the bins. Bin 0 and the last bin, n // 2, are left out: bin 0 is zero.
        """
        frames = samples.shape[1]
        z = np.ascontiguousarray(samples.reshape(self._half, 2, frames).transpose(1, 0, 2))
        for radix, done, twiddle in self._steps:
            z *= _ONE // radix
            # Axes: part, frequency so far, operand, the rest of the index and the frame.
            z = _rounded(z).reshape(2, done, radix, -1)
            rest = z[:, :, 1:] if done == 1 else _multiplied(z[:, :, 1:], twiddle)  # a factor of 1 changes nothing
            z = (_radix_2 if radix == 2 else _radix_4)(z[:, :, 0], rest)
        return self._real(z.reshape(2, self._half, frames))

    def _real(self, z: NDArray[np.int32]) -> NDArray[np.int32]:
        """The bins of the real transform from those of the complex one."""
        pairs = self._half // 2
        halves = _rounded(z[:, 1:] * (_ONE // 2))
        low, high = halves[:, :pairs], halves[:, ::-1][:, :pairs]
        even = np.stack([low[0] + high[0], low[1] - high[1]])
        odd = _multiplied(np.stack([low[0] - high[0], low[1] + high[1]]), self._last)
        bins = np.zeros(z.shape, np.int32)
        np.right_shift(even + odd, 1, out=bins[:, 1 : pairs + 1])
        mirrored = bins[:, ::-1][:, :pairs]
        np.right_shift(even[0] - odd[0], 1, out=mirrored[0])
        np.right_shift(odd[1] - even[1], 1, out=mirrored[1])
        return bins


def _radix_2(a: NDArray[np.int32], rest: NDArray[np.int32]) -> NDArray[np.int32]:
    return np.stack([a + rest[:, :, 0], a - rest[:, :, 0]], axis=1)


def _radix_4(a: NDArray[np.int32], rest: NDArray[np.int32]) -> NDArray[np.int32]:
    b, c, d = rest[:, :, 0], rest[:, :, 1], rest[:, :, 2]
    sums, differences, odd_sums, odd_differences = a + c, a - c, b + d, b - d
    out = np.empty((2, 4, *a.shape[1:]), np.int32)
    np.add(sums, odd_sums, out=out[:, 0])
    np.subtract(sums, odd_sums, out=out[:, 2])
    np.add(differences[0], odd_differences[1], out=out[0, 1])
    np.subtract(differences[1], odd_differences[0], out=out[1, 1])
    np.subtract(differences[0], odd_differences[1], out=out[0, 3])
    np.add(differences[1], odd_differences[0], out=out[1, 3])
    return out
