"""What the trials of a sweep vary, and the points that they take: all of a grid, or drawn at random."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from host_tools.config import SEED
from host_tools.errors import SweepError
from kws_edge.errors import ConfigError
from kws_edge.ranges import number, whole
from kws_edge.settings import Choice, Flag, Settings, Text, Texts, option
from kws_edge.text import shown

__all__ = ["Axis", "Search", "points", "text_of"]

MOST_TRIALS = 1000
_ANY = number(-1e300, 1e300)
_DIGITS = 4
"""Digits of a number that is drawn."""
_ATTEMPTS = 1000
"""Draws of a point that other trials do not have."""


class _Values:
    """A list of values that an option takes."""

    def __str__(self) -> str:
        return "a list of one or more texts, numbers, true or false, or lists of these"

    def check(self, name: str, value: object) -> tuple[Any, ...]:
        """Return `value` as a tuple if it is such a list, and has no value twice.

        Raises
        ------
        SweepError
            If it is not.
        """
        if not (isinstance(value, (list, tuple)) and value):
            raise SweepError(f"{name} must be {self}, got {shown(value)}")
        texts = [text_of(one, name) for one in value]
        for i, text in enumerate(texts):
            if text in texts[:i]:
                raise SweepError(f"{name} has {shown(value[i])} twice")
        return tuple(value)


@dataclass(frozen=True, kw_only=True)
class Axis(Settings):
    """What trials vary: options that take the same value, and the values."""

    name: str
    options: tuple[str, ...] = option(Texts(), help="STAGE.OPTION of the recipe, one or several with the same value")
    values: tuple[Any, ...] | None = option(_Values(), None, help="the values")
    low: float | None = option(_ANY, None, help="least number, in place of values")
    high: float | None = option(_ANY, None, help="largest number")
    log: bool = option(Flag(), False, help="draw the logarithm evenly")
    whole: bool = option(Flag(), False, help="draw whole numbers")

    def __post_init__(self) -> None:
        self._check()
        where = f"vary.{self.name}"
        if not self.options or len(set(self.options)) < len(self.options):
            raise SweepError(f"{where}: options must name each STAGE.OPTION once, got {shown(list(self.options))}")
        if (self.low is None) != (self.high is None) or (self.low is None) == (self.values is None):
            raise SweepError(f"{where}: give either values, or low and high")
        if self.low is None or self.high is None:
            if self.log or self.whole:
                raise SweepError(f"{where}: log and whole go with low and high, not with values")
        elif not self.low < self.high:
            raise SweepError(f"{where}: low must be less than high, got {self.low:g} and {self.high:g}")
        elif self.log and self.low <= 0:
            raise SweepError(f"{where}: with log, low must be more than 0, got {self.low:g}")
        elif self.whole and not (self.low.is_integer() and self.high.is_integer()):
            raise SweepError(f"{where}: with whole, low and high are whole numbers, got {self.low:g} and {self.high:g}")

    @classmethod
    def read(cls, name: str, table: Any) -> Axis:
        """The axis `name` from its table, in which a single option may stand without brackets.

        Raises
        ------
        SweepError
            If the table is wrong.
        """
        where = f"vary.{name}"
        if not isinstance(table, dict):
            raise SweepError(f"{where} is a table with options and values, not {shown(table)}")
        known = [one for one in cls.__dataclass_fields__ if one != "name"]
        for key in table:
            if key not in known:
                raise SweepError(f"{where}: there is no {shown(key)}; it takes {', '.join(known)}")
        if "options" not in table:
            raise SweepError(f"{where}: 'options' is missing: give the STAGE.OPTION that takes the values")
        options = [table["options"]] if isinstance(table["options"], str) else table["options"]
        try:
            return cls(name=name, **{**table, "options": options})
        except (ConfigError, SweepError) as error:
            raise SweepError(str(error).replace(f"{cls.label()}: ", f"{where}: ", 1)) from None

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values, or the ends of the range."""
        return self.values or (self._rounded(self.low), self._rounded(self.high))

    def draw(self, rng: np.random.Generator) -> Any:
        """A value at random."""
        if self.values is not None:
            return self.values[rng.integers(len(self.values))]
        assert self.low is not None and self.high is not None
        if self.log:
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = rng.uniform(self.low, self.high)
        return self._rounded(min(max(value, self.low), self.high))

    def _rounded(self, value: Any) -> float:
        return round(value) if self.whole else float(f"{value:.{_DIGITS}g}")


@dataclass(frozen=True, kw_only=True)
class Search(Settings):
    """How a sweep chooses its trials, and when it stops them."""

    method: str = option(Choice("grid", "random", "asha"), "grid", help="every combination, random ones, or ASHA's")
    trials: int | None = option(whole(1, MOST_TRIALS), None, help="trials of random and asha")
    seed: int = option(SEED, 0, help="seed of the draws")
    judge: str | None = option(Text(), None, help="asha: STAGE.FIGURE of a training's log; default: the objective")
    grace_period: int | None = option(whole(1, 100_000), None, help="asha: epochs after which a trial may be stopped")
    reduction_factor: float | None = option(number(1.1, 100), None, help="asha: goes on with one trial in so many")

    def __post_init__(self) -> None:
        self._check()
        if self.method == "grid":
            self._refuse("trials")
        elif self.trials is None:
            raise SweepError(f"search: trials is missing: give how many {self.method} is to try, 1 to {MOST_TRIALS}")
        if self.method != "asha":
            self._refuse("judge", "grace_period", "reduction_factor")

    def _refuse(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) is not None:
                raise SweepError(f"search: {name} does not go with method = '{self.method}'")

    @classmethod
    def label(cls) -> str:
        return "search"


def text_of(value: Any, where: str = "") -> str:
    """A value in TOML.

    Raises
    ------
    SweepError
        If an option of a recipe cannot be such a value.
    """
    parts = value if isinstance(value, list) else [value]
    for one in parts:
        if not isinstance(one, (bool, int, float, str)) or (isinstance(one, float) and not math.isfinite(one)):
            raise SweepError(f"{where} takes texts, numbers, true or false, or lists of these, got {shown(one)}")
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # which TOML has only so


def points(axes: Sequence[Axis], search: Search) -> list[dict[str, Any]]:
    """The points of the trials, each with a value for every axis.

    Raises
    ------
    SweepError
        If there are too many of a grid, or too few to draw from.
    """
    names = [axis.name for axis in axes]
    if search.method == "grid":
        for axis in axes:
            if axis.values is None:
                raise SweepError(f"vary.{axis.name}: a grid takes values; low and high go with random and asha")
        if (n := math.prod(len(axis.values or ()) for axis in axes)) > MOST_TRIALS:
            raise SweepError(f"vary: the grid has {n:,} trials; at most {MOST_TRIALS:,} are possible")
        return [dict(zip(names, one, strict=True)) for one in itertools.product(*(axis.values or () for axis in axes))]
    rng, found = np.random.default_rng(search.seed), dict[str, dict[str, Any]]()
    for _ in range(search.trials or 0):
        for _ in range(_ATTEMPTS):
            point = {axis.name: axis.draw(rng) for axis in axes}
            if found.setdefault(json.dumps(point), point) is point:
                break
        else:
            raise SweepError(f"search: trials: there are only {len(found)} different ones, not {search.trials}")
    return list(found.values())
