"""The level of live audio, and whether it is that of a muted microphone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FLOOR_DB", "Mute", "level_db"]

FLOOR_DB = -70.0
"""Lowest level that is told, in dB of full scale."""
_MUTE_S = 10.0


def level_db(block: NDArray[np.int16]) -> float:
    """Level of a block of int16 samples, dB of full scale; at least -70."""
    power = float(np.mean(np.square(block, dtype=np.float32))) / 32768**2
    return max(FLOOR_DB, 10 * math.log10(power + 1e-12))


class Mute:
    """Notices when all samples have had one value for a while, as those of a muted microphone have, and when this ends.

    After the microphone was gone, this begins anew.

    Parameters
    ----------
    rate : int
        Hz.
    notice : callable
        Called with a text.
    """

    def __init__(self, rate: int, notice: Callable[[str], None]) -> None:
        self._limit, self._notice = round(_MUTE_S * rate), notice
        self._value: int | None = None  # value of all the latest samples
        self._n = 0  # number of these samples
        self._outages = 0
        self.told = False

    def hear(self, block: NDArray[np.int16], outages: int = 0) -> None:
        """Take the next samples, shape (n,), int16, and the number of outages before them."""
        if not len(block):
            return
        if outages != self._outages:
            self._outages, self._value, self.told = outages, None, False
        first = block[0]
        if first != block[-1] or (block != first).any():  # mostly the first test decides
            self._value, self._n = None, 0
            if self.told:
                self._notice("there is sound again")
                self.told = False
            return
        self._n = self._n + len(block) if first == self._value else len(block)
        self._value = first
        if self._n >= self._limit and not self.told:
            what = f"of the one value {first}" if first else "of digital silence"
            self._notice(
                f"{_MUTE_S:g} s {what}: the microphone may be muted or the wrong one; kws-edge doctor finds out"
            )
            self.told = True
