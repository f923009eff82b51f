import numpy as np
import pytest

from kws_edge.model.quantization import dequantize, quantize


def test_rounds_and_saturates():
    # Truncation would give 0 and 1 for the first two values. Wrapping would give small numbers for the last two.
    values = np.array([0.6, 1.5, 2.5, -0.6, 1000.0, -1000.0], np.float32)
    assert quantize(values, 1.0, 0).tolist() == [1, 2, 2, -1, 127, -128]


@pytest.mark.parametrize(
    ("scale", "zero_point", "dtype"), [(0.1, -5, np.int8), (1.0, -128, np.int8), (0.02, 7, np.uint8)]
)
def test_round_trip_over_every_code(scale, zero_point, dtype):
    limits = np.iinfo(dtype)
    codes = np.arange(limits.min, limits.max + 1).astype(dtype)
    assert np.array_equal(quantize(dequantize(codes, scale, zero_point), scale, zero_point, dtype), codes)


def test_levels_are_their_codes():
    """With scale 1 and zero point -128, logged uint8 levels and the INT8 input differ by 128 exactly."""
    levels = np.arange(256, dtype=np.float32)
    assert np.array_equal(quantize(levels, 1.0, -128).astype(int), np.arange(256) - 128)
