"""Limits of plausible audio. Sample rates, channels and levels beyond them come from a broken header or a mistake."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from kws_edge.errors import AudioError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAX_CHANNELS", "MAX_RATE", "MIN_RATE", "check_format", "check_rate", "check_scale"]

MIN_RATE, MAX_RATE = 1000, 768_000
"""Sample rates that audio may have, in Hz. A rate outside comes from a broken header; converting it takes gigabytes."""
MAX_CHANNELS = 64
"""Most channels that audio may have."""
_FULL_SCALE = 8.0
"""Float samples beyond this are integers that nobody divided: even hot audio at full scale 1 stays below."""


def check_rate(rate: int) -> None:
    """Refuse a sample rate outside the limits.

    Raises
    ------
    AudioError
        If the rate is out of range, or not a whole number.
    """
    try:
        whole = operator.index(rate)
    except TypeError:
        raise AudioError(f"a sample rate is a whole number of Hz, not {rate!r}") from None
    if not MIN_RATE <= whole <= MAX_RATE:
        raise AudioError(f"a sample rate of {whole} Hz; audio has {MIN_RATE} to {MAX_RATE} Hz")


def check_format(rate: int, channels: int) -> None:
    """Refuse a sample rate or a number of channels outside the limits.

    Raises
    ------
    AudioError
        If one of them is out of range.
    """
    check_rate(rate)
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(f"{channels} channels; audio has 1 to {MAX_CHANNELS}")


def check_scale(samples: NDArray[np.floating[Any]]) -> None:
    """Refuse float samples whose full scale is not 1.

    Raises
    ------
    AudioError
        If samples are far beyond full scale, or NaN or infinite.
    """
    if np.vdot(samples, samples) <= _FULL_SCALE**2:  # a quick test: then no sample can be beyond
        return
    peak = np.abs(samples).max(initial=0)
    if not np.isfinite(peak):
        raise AudioError("the audio holds NaN or infinite samples")
    if peak > _FULL_SCALE:
        raise AudioError(f"float samples reach {peak:g}, but full scale is 1; divide them by 32768 if they were int16")
