"""Affine quantisation, as TFLite defines it: ``real = scale * (q - zero_point)``."""

from __future__ import annotations

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
    if scale != 1:
        values = np.divide(values, np.float32(scale), dtype=np.float32)
    q = np.rint(values, dtype=np.float32)
    limits = np.iinfo(dtype)
    np.maximum(q, np.float32(limits.min - zero_point), out=q)
    np.minimum(q, np.float32(limits.max - zero_point), out=q)
    return np.add(q, np.float32(zero_point), out=np.empty(q.shape, dtype), casting="unsafe")


def dequantize(q: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    """Real values of `q`, float32, same shape."""
    return (q.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
