"""The front end of a model as C constants and tables for ``csrc``, in single precision and in fixed point."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from firmware_export.c_source import array
from kws_edge.config import MICROFRONTEND, FrontendConfig
from kws_edge.errors import ConfigError
from kws_edge.features.frontend import resize_positions
from kws_edge.features.mel import mel_matrix, window

__all__ = ["FrontendTables"]

_WEIGHT_BITS = 24
_WINDOW_BITS = 30
_MAGNITUDE_BITS = 8
_LARGEST_BAND = 128  # bins, because the sums of the fixed-point form have 64 bits


@dataclass(frozen=True)
class FrontendTables:
    """The settings of a front end and of the model's input in the form that ``csrc`` needs.

    Parameters
    ----------
    config : FrontendConfig
    scale, zero_point
        Quantisation of the INT8 input.
    hop_frames : int, optional
        Frames that a network with state takes at a time; by default, the input is a whole clip.

    Raises
    ------
    ConfigError
        If ``csrc`` cannot run this front end.
    """

    config: FrontendConfig
    scale: float
    zero_point: int
    hop_frames: int | None = None

    def __post_init__(self) -> None:
        c = self.config
        _check(
            c.algorithm != MICROFRONTEND and c.n_mfcc is None and not c.normalise,
            f"{c.contents}: the firmware's front end computes log-mel levels of clips as they are, and nothing else; "
            "train with --frontend logmel40, or export a run of microfrontend with kws-host export-microwakeword",
        )
        _check(
            c.n_fft & (c.n_fft - 1) == 0 and 16 <= c.n_fft <= 8192,
            f"n_fft={c.n_fft} is no power of two from 16 to 8192, which the firmware's transform needs; train the "
            f"model with {1 << (c.frame_length - 1).bit_length()}",
        )
        skipped = c.hop_length - c.frame_length
        _check(
            skipped <= 65535, f"{skipped} samples between two frames are more than the 65535 that the firmware skips"
        )
        _check(self._window <= 65535, f"{self._window} frames are more than the window's 65535")
        counts = self._bands[1]
        _check(
            max(counts) <= _LARGEST_BAND,
            f"a mel band of {max(counts)} bins is wider than the {_LARGEST_BAND} of the fixed-point sums; "
            "use more mel bands or a smaller n_fft",
        )
        _check(
            max(map(abs, (*self._range, self._fixed["KWS_FIXED_LEVEL"] / 65536))) < 30000
            and self._fixed["KWS_FIXED_GAIN"] < 2**24,
            f"levels from {self._range[0]:.0f} to {self._range[1]:.0f} steps of the model's input (scale {self.scale}) "
            "are beyond the fixed-point form's range",
        )

    @property
    def _power(self) -> int:
        """Exponent of the amplitude in the sums of the bands."""
        return 2 if self.config.spectrum == "power" else 1

    @property
    def _window(self) -> int:
        """Frames that are kept for an inference."""
        return self.hop_frames or self.config.n_frames

    @property
    def _input_shape(self) -> tuple[int, int]:
        """Frames and bands of the model's input."""
        return self.config.feature_shape if self.hop_frames is None else (self.hop_frames, self.config.n_mels)

    @cached_property
    def _loudest(self) -> float:
        """Upper bound of the sum of a band."""
        c = self.config
        amplitude = 32768 * float(window(c).sum()) * c.sample_scale
        return float(mel_matrix(c).sum(axis=0).max()) * amplitude**self._power

    @cached_property
    def _bands(self) -> tuple[list[int], list[int], NDArray[np.float32]]:
        """First bin and number of bins of each mel band, and the weights of all bands in turn."""
        matrix = mel_matrix(self.config)
        first, count, weights = [], [], []
        for column in matrix.T:
            used = np.flatnonzero(column)
            first.append(int(used[0]) if len(used) else 0)
            count.append(int(used[-1]) + 1 - first[-1] if len(used) else 0)
            weights.append(column[first[-1] : first[-1] + count[-1]])
        return first, count, np.concatenate(weights)

    @cached_property
    def _range(self) -> tuple[float, float]:
        """Lowest and highest level, quantised without rounding or saturation."""
        c = self.config
        levels = sorted(c.log_gain * math.log(band + c.log_offset) + c.level_offset for band in (0.0, self._loudest))
        limits = (c.level_min, c.level_max)
        low, high = (
            level if limit is None else choose(level, limit)
            for level, limit, choose in zip(levels, limits, (max, min), strict=True)
        )
        return low / self.scale + self.zero_point, high / self.scale + self.zero_point

    @cached_property
    def _fixed(self) -> dict[str, int]:
        """Constants of the fixed-point form. See ``kws_levels_fixed.c``.

        If a frame is shifted left by `shift`, a bin is ``2 ** (shift + bits)`` times its value for int16 samples. A
        band also has the binary places of the weights and of the magnitudes.
        """
        c = self.config
        bits = _WINDOW_BITS - 16 - int(math.log2(c.n_fft // 2))
        places = _WEIGHT_BITS + (2 * bits if self._power == 2 else bits + _MAGNITUDE_BITS)
        mantissa, exponent = math.frexp(c.log_offset / c.sample_scale**self._power)
        gain = round(c.log_gain * math.log(2) / self.scale * 65536)
        level = (c.level_offset + c.log_gain * self._power * math.log(c.sample_scale)) / self.scale + self.zero_point
        low, high = self._range
        fraction_bits = 0
        if c.resize_frames:
            fraction_bits = min(12, int(math.log2(16383 / max(1.0, abs(low), abs(high)))))
        else:
            low, high = max(low, -128), min(high, 127)
        return {
            "KWS_FIXED_GAIN": gain,
            "KWS_FIXED_LEVEL": round(level * 65536 - gain * places),
            "KWS_FIXED_OFFSET_MANTISSA": min(round(mantissa * 2**32), 2**32 - 1),
            "KWS_FIXED_OFFSET_EXPONENT": exponent - 32 + places,
            "KWS_LEVEL_FRACTION_BITS": fraction_bits,
            "KWS_FIXED_LOWEST": round(low * 2**fraction_bits),
            "KWS_FIXED_HIGHEST": round(high * 2**fraction_bits),
        }

    @cached_property
    def _swaps(self) -> NDArray[np.int64]:
        n = self.config.n_fft // 2
        bits = n.bit_length() - 1
        reversed_ = [int(f"{i:0{bits}b}"[::-1], 2) for i in range(n)]
        return np.array([(i, j) for i, j in enumerate(reversed_) if i < j])

    def macros(self) -> dict[str, float]:
        """Constants for ``kws_config.h``, by name."""
        c = self.config
        _, count, _ = self._bands
        bins = np.flatnonzero(mel_matrix(c).any(axis=1))
        values: dict[str, float] = {
            "KWS_SAMPLE_RATE": c.sample_rate,
            "KWS_CLIP_SAMPLES": c.clip_samples,
            "KWS_FRAME_LENGTH": c.frame_length,
            "KWS_HOP_LENGTH": c.hop_length,
            "KWS_N_FFT": c.n_fft,
            "KWS_FFT_LOG2": c.n_fft.bit_length() - 1,
            "KWS_FFT_SWAPS": len(self._swaps),
            "KWS_FIRST_BIN": int(bins[0]),
            "KWS_LAST_BIN": int(bins[-1]),
            "KWS_MAGNITUDE": int(self._power == 1),
            "KWS_N_MELS": c.n_mels,
            "KWS_MEL_WEIGHTS": sum(count),
            "KWS_LOG_OFFSET": float(c.log_offset),
            "KWS_LOG_GAIN": float(c.log_gain),
            "KWS_LEVEL_OFFSET": float(c.level_offset),
        }
        for name in ("level_min", "level_max"):
            if getattr(c, name) is not None:
                values[f"KWS_{name.upper()}"] = float(getattr(c, name))
        return values | {
            "KWS_N_FRAMES": self._window,
            "KWS_RESIZE": int(c.resize_frames is not None),
            "KWS_INPUT_FRAMES": self._input_shape[0],
            "KWS_INPUT_SIZE": math.prod(self._input_shape),
            "KWS_INPUT_SCALE": float(self.scale),
            "KWS_INPUT_ZERO_POINT": self.zero_point,
            **self._fixed,
        }

    def state_bytes(self, *, fixed: bool) -> int:
        """Size of ``kws_frontend_state`` in bytes."""
        c = self.config
        level = (2 if fixed else 4) if c.resize_frames else 1
        size = 4 * c.n_fft + level * self._window * c.n_mels
        return _up(_up(size, 2) + 2 * c.frame_length + 6, 4)

    def table_bytes(self, *, fixed: bool) -> int:
        """Size of the tables of ``kws_tables.c`` in bytes."""
        c = self.config
        resized = (c.resize_frames or 0) * (6 if fixed else 8)
        words = 2 * (3 * c.n_fft // 4) + c.frame_length + len(self._bands[2]) + (65 if fixed else 0)
        return 4 * words + 4 * len(self._swaps) + 4 * c.n_mels + resized

    def source(self) -> str:
        """The text of ``kws_tables.c`` without its heading."""
        c = self.config
        angle = -2 * np.pi * np.arange(3 * c.n_fft // 4) / c.n_fft
        twiddles = np.column_stack([np.cos(angle), np.sin(angle)]).ravel()
        twiddles[np.abs(twiddles) < 1e-15] = 0
        first, count, weights = self._bands
        windowed = window(c)
        floats = [
            array("const kws_real kws_fft_twiddles[2 * (3 * KWS_N_FFT / 4)]", twiddles.astype(np.float32)),
            array("const kws_real kws_window[KWS_FRAME_LENGTH]", (windowed * c.sample_scale).astype(np.float32)),
            array("const float kws_mel_weights[KWS_MEL_WEIGHTS]", weights),
        ]
        fixed = [
            array("const kws_real kws_fft_twiddles[2 * (3 * KWS_N_FFT / 4)]", _integers(twiddles, 31)),
            array("const kws_real kws_window[KWS_FRAME_LENGTH]", _integers(windowed, _WINDOW_BITS)),
            array("const uint32_t kws_mel_weights[KWS_MEL_WEIGHTS]", _integers(weights, _WEIGHT_BITS)),
            array("const uint32_t kws_log2[65]", _integers(np.log2(1 + np.arange(65) / 64), 16)),
        ]
        both = [
            array("const uint16_t kws_fft_swaps[KWS_FFT_SWAPS][2]", self._swaps),
            array("const uint16_t kws_mel_first[KWS_N_MELS]", np.array(first)),
            array("const uint16_t kws_mel_count[KWS_N_MELS]", np.array(count)),
        ]
        if c.resize_frames:
            lower, upper, fraction = resize_positions(c.n_frames, c.resize_frames)
            both.append(array("const uint16_t kws_resize_lower[KWS_INPUT_FRAMES]", lower))
            both.append(array("const uint16_t kws_resize_upper[KWS_INPUT_FRAMES]", upper))
            floats.append(array("const float kws_resize_fraction[KWS_INPUT_FRAMES]", fraction))
            fixed.append(array("const uint16_t kws_resize_fraction[KWS_INPUT_FRAMES]", _integers(fraction, 15)))
        parts = ['#include "kws_tables.h"\n', *both, "#if KWS_FIXED_POINT\n", *fixed, "#else\n", *floats]
        return "\n".join([*parts, "#endif /* KWS_FIXED_POINT */\n"])


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _check(good: bool, message: str) -> None:
    if not good:
        raise ConfigError(f"the firmware's front end cannot do this one: {message}")


def _integers(values: NDArray[np.floating], bits: int) -> NDArray[np.int64]:
    """Values in [-1, 1], or non-negative ones, as 32-bit integers with `bits` binary places."""
    largest = 2**31 - 1
    return np.clip(np.rint(np.asarray(values, np.float64) * 2.0**bits), -largest, largest).astype(np.int64)
