"""Affine quantisation, as TFLite defines it: ``real = scale * (q - zero_point)``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

__all__ = ["POSTERIOR_STEPS", "dequantize", "posterior", "quantize"]

POSTERIOR_STEPS = 32768
"""Steps of a posterior from 0 to 1 of a network with state. Sums of less than 512 are exact in float32 and integers."""


def quantize(
    values: NDArray[np.floating[Any]], scale: float, zero_point: int, dtype: DTypeLike = np.int8
) -> NDArray[Any]:
    """Quantise in float32: divide by `scale`, round half to even, add the zero point, saturate.

    Parameters
    ----------
    values : numpy.ndarray, floating
    scale : float
    zero_point : int
    dtype : integer dtype

    Returns
    -------
    numpy.ndarray of `dtype`, same shape
    """
    if scale != 1:
        values = np.divide(values, np.float32(scale), dtype=np.float32)
    q = np.rint(values, dtype=np.float32)
    limits = np.iinfo(np.dtype(dtype))
    np.maximum(q, np.float32(limits.min - zero_point), out=q)
    np.minimum(q, np.float32(limits.max - zero_point), out=q)
    out: NDArray[Any] = np.empty(q.shape, dtype)
    np.add(q, np.float32(zero_point), out=out, casting="unsafe")
    return out


def dequantize(q: NDArray[Any], scale: float, zero_point: int) -> NDArray[np.float32]:
    """Return the real values of `q`, float32, same shape."""
    values: NDArray[np.float32] = (q.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
    return values


def posterior(scores: NDArray[Any] | float, offset: float) -> NDArray[np.float32]:
    """Posteriors of a network with state, float32, same shape: ``1 / (1 + exp(offset - scores))``.

    They are rounded to multiples of 1 / :data:`POSTERIOR_STEPS`.
    """
    values: NDArray[np.float64] = 1 / (1 + np.exp(offset - np.asarray(scores, np.float64)))
    return (np.rint(values * POSTERIOR_STEPS) / POSTERIOR_STEPS).astype(np.float32)
