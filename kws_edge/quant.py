"""Affine quantisation, as TFLite defines it: ``real = scale * (q - zero_point)``."""

from __future__ import annotations

from functools import cache

import numpy as np

__all__ = ["dequantize", "quantize"]


def quantize(values: np.ndarray, scale: float, zero_point: int, dtype: np.dtype | type = np.int8) -> np.ndarray:
    """Quantise in float32: divide, round half to even, add the zero point, saturate.

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
    lowest, highest = _limits(dtype)
    q = np.divide(values, np.float32(scale), dtype=np.float32)
    np.rint(q, out=q)
    q += np.float32(zero_point)
    np.maximum(q, lowest, out=q)
    np.minimum(q, highest, out=q)
    return q.astype(dtype)


@cache
def _limits(dtype: np.dtype | type) -> tuple[np.ndarray, np.ndarray]:
    limits = np.iinfo(dtype)
    return np.array(limits.min, np.float32), np.array(limits.max, np.float32)


def dequantize(q: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    """Real values of `q`, float32, same shape."""
    return (q.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
