"""Ranges of numbers in settings, in files and on the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kws_edge.errors import ConfigError
from kws_edge.text import shown

__all__ = ["Range", "number", "whole"]

_WHOLE = r"[+-]?[0-9]{1,30}"
_NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,9})?"


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included. A range is also an argparse ``type`` that reads such a number.

    Parameters
    ----------
    low, high : float
        Finite bounds.
    whole : bool
        Allow only whole numbers.
    """

    low: float
    high: float
    whole: bool = False

    def __str__(self) -> str:
        return f"a {'whole ' * self.whole}number from {self.low:.15g} to {self.high:.15g}"

    def __contains__(self, value: object) -> bool:
        kinds = int if self.whole else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and self.low <= value <= self.high

    def check(self, name: str, value: object) -> float:
        """Return `value` as int or float if it lies in the range.

        Raises
        ------
        ConfigError
            If it does not. The message names `name`.
        """
        if value not in self or not isinstance(value, (int, float)):
            raise ConfigError(f"{name} must be {self}, got {shown(value)}")
        return int(value) if self.whole else float(value)

    def __call__(self, text: str) -> float:
        """Read a number in plain ASCII digits. argparse adds the option to the error."""
        value: float | None = None
        if re.fullmatch(_WHOLE if self.whole else _NUMBER, text):
            value = int(text) if self.whole else float(text)
        if value is None or value not in self:
            from argparse import ArgumentTypeError

            raise ArgumentTypeError(f"must be {self}, got {shown(text)}")
        return value


def number(low: float, high: float) -> Range:
    """The range of numbers from `low` to `high`."""
    return Range(low, high)


def whole(low: int, high: int) -> Range:
    """The range of whole numbers from `low` to `high`."""
    return Range(low, high, whole=True)
