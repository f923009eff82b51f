"""Parallel coordinates: a line for each trial, over an axis for each of its values and figures."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from host_tools.sweep.file import Sweep
from host_tools.sweep.outcome import Outcome
from kws_edge.text import printable

if TYPE_CHECKING:  # matplotlib takes half a second to import
    from matplotlib.axes import Axes

__all__ = ["plot_parallel"]

_TICKS = 5


def plot_parallel(sweep: Sweep, outcomes: Sequence[Outcome], path: str | Path) -> None:
    """Draw the trials in parallel coordinates, as PNG. Colour tells the objective, and the best line is thick.

    What a trial did not measure leaves a gap in its line. Trials without the objective are grey.

    Parameters
    ----------
    sweep : Sweep
    outcomes : sequence of Outcome
        The best first.
    path : path
    """
    import matplotlib
    from matplotlib.figure import Figure

    figures = [str(one) for one in reversed(sweep.figures)]  # the objective stands last
    names = [*(axis.name for axis in sweep.axes), *figures]
    columns = [[one.values[axis.name] for one in outcomes] for axis in sweep.axes]
    columns += [[one.figures.get(name) for one in outcomes] for name in figures]
    logs = [axis.log for axis in sweep.axes] + [False] * len(figures)
    drawn = Figure(figsize=(2 + 1.8 * len(names), 5), layout="constrained")
    axes = drawn.subplots()
    heights = []
    for x, (column, log) in enumerate(zip(columns, logs, strict=True)):
        place, ticks = _scale(column, log=log)
        heights.append([place(value) for value in column])
        _draw_axis(axes, x, ticks)
    colours = matplotlib.colormaps["viridis"]
    for i in reversed(range(len(outcomes))):
        ys = [column[i] for column in heights]
        good = ys[-1] if sweep.maximize else 1 - ys[-1]
        style: dict[str, Any] = {"color": "0.8"} if math.isnan(good) else {"color": colours(good)}
        axes.plot(range(len(names)), ys, marker=".", linewidth=3 if i == 0 else 1, alpha=0.9, **style)
    axes.set_xticks(range(len(names)), [printable(name, most=40) for name in names], rotation=20, ha="right")
    axes.set(xlim=(-0.3, len(names) - 0.4), ylim=(-0.05, 1.08), yticks=[], title=printable(sweep.name))
    for side in axes.spines.values():
        side.set_visible(False)
    drawn.savefig(path, dpi=110)


def _draw_axis(axes: Axes, x: int, ticks: Sequence[tuple[float, str]]) -> None:
    axes.axvline(x, color="0.6", linewidth=0.8, zorder=0)
    for y, text in ticks:
        axes.annotate(text, (x, y), (3, 2), textcoords="offset points", fontsize=8, color="0.3")


def _scale(column: Sequence[Any], *, log: bool) -> tuple[Callable[[Any], float], list[tuple[float, str]]]:
    """A function that gives the height of a value, from 0 to 1 and NaN for none, and the marks of the axis.

    Few values stand apart evenly, in their order. Many numbers lie on a linear or logarithmic scale.
    """
    known = [one for one in column if one is not None]
    numbers = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in known)
    distinct = {json.dumps(one): one for one in known}
    if numbers and len(distinct) > _TICKS:
        return _numeric(known, log=log)
    order = sorted(distinct, key=distinct.__getitem__ if numbers else None)
    heights = {text: i / (len(order) - 1) if len(order) > 1 else 0.5 for i, text in enumerate(order)}
    marks = [(y, printable(text.strip('"'), most=20)) for text, y in heights.items()]
    return lambda value: heights.get(json.dumps(value), math.nan), marks


def _numeric(known: Sequence[float], *, log: bool) -> tuple[Callable[[Any], float], list[tuple[float, str]]]:
    change = math.log if log else float
    low, high = change(min(known)), change(max(known))

    def height(value: Any) -> float:
        return math.nan if value is None else (change(value) - low) / (high - low)

    shares = [i / (_TICKS - 1) for i in range(_TICKS)]
    levels = [low + share * (high - low) for share in shares]
    return height, [
        (share, f"{math.exp(level) if log else level:.3g}") for share, level in zip(shares, levels, strict=True)
    ]
