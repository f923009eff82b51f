"""Pictures of results on streams: the DET curve and a timeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from host_tools.evaluation.scoring import CONFUSION, DUPLICATE, FALSE_ACCEPT, GENUINE, HIT, MISS, Score
from host_tools.evaluation.stream_results import Result

if TYPE_CHECKING:  # matplotlib takes half a second to import
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

__all__ = ["plot_det", "plot_timeline"]

_SHOWN_PERCENT = 50  # the DET curve leaves out more false rejects than this, so that the rest can be read
_STYLES = {
    HIT: ("heard", "|", "0.75"),
    GENUINE: ("genuine", "^", "tab:green"),
    DUPLICATE: ("duplicate", "+", "tab:blue"),
    FALSE_ACCEPT: ("false accept", "o", "tab:orange"),
    CONFUSION: ("confused", "D", "tab:purple"),
    MISS: ("missed", "x", "tab:red"),
}
"""Name, marker and colour of each kind of event, in the order in which they are drawn."""


def plot_det(results: Sequence[Result], name: str, path: str | Path) -> None:
    """Draw false rejects over false accepts per hour, as PNG. If one of them is unknown, draw over the threshold.

    Parameters
    ----------
    results : sequence of Result
    name : str
        Name of the model.
    path : path
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots()
    first = results[0].score
    title = f"{name}: {first.hours:.2f} h, {first.words} keywords"
    floor = f"false accepts per hour (none counted: drawn at {0.5 / first.hours:.2g})"
    if first.words:
        shown = [y for result in results for y in _draw_curve(axes, result, results) if y <= _SHOWN_PERCENT]
        axes.set(xscale="log", xlabel=floor, ylabel="false rejects (%)", title=title)
        axes.set_ylim(0, 1.2 * max(shown, default=100 / 1.2) + 1)
        _plain_decades(axes.xaxis)
    else:
        for result in results:
            thresholds, rates = [t for t, _ in result.sweep], [_rate(score) for _, score in result.sweep]
            axes.plot(thresholds, rates, "o-", label=result.condition.name)
        axes.set(yscale="log", xlabel="threshold", ylabel=floor, title=title)
        _plain_decades(axes.yaxis)
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _rate(score: Score) -> float:
    """False accepts per hour. A logarithmic axis has no zero, so zero false accepts are drawn as half of one."""
    return max(0.5, score.false_accepts) / score.hours


def _percent(score: Score) -> float:
    """False rejects in percent."""
    return 100 * (score.false_reject_rate or 0.0)


def _draw_curve(axes: Axes, result: Result, results: Sequence[Result]) -> list[float]:
    """Draw the results of one condition. Returns the false rejects that the curve shows, in percent."""
    label, score = result.condition.name, result.score
    rates = [_rate(s) for _, s in result.sweep]
    rejects = [_percent(s) for _, s in result.sweep]
    (line,) = axes.plot(rates, rejects, "o-", markersize=4, label=label)
    if score.wordless and 0 < score.wordless.seconds < score.seconds:
        quiet = [_rate(s.wordless) for _, s in result.sweep if s.wordless]
        axes.plot(quiet, rejects, ":", color=line.get_color(), label=f"{label}: per hour without words")
    if len(results) <= 2:
        for (threshold, _), x, y in list(zip(result.sweep, rates, rejects, strict=True))[::2]:
            axes.annotate(
                f"{threshold:g}",
                (x, y),
                textcoords="offset points",
                xytext=(5, 4),
                fontsize=8,
                color=line.get_color(),
            )
    axes.plot(
        _rate(score),
        _percent(score),
        "*",
        markersize=14,
        color=line.get_color(),
        markeredgecolor="k",
        label="the settings in use" if result is results[-1] else None,
    )
    return [*rejects, _percent(score)]


def _plain_decades(axis: Axis) -> None:
    """Set the ticks of a logarithmic axis at 1, 2 and 5, as plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def plot_timeline(results: Sequence[Result], lengths_s: Sequence[tuple[str, float]], path: str | Path) -> None:
    """Draw hits, misses, confusions and false accepts over the time of all streams, as PNG.

    Parameters
    ----------
    results : sequence of Result
    lengths_s : sequence of (str, float)
        Name and length of each stream.
    path : path
    """
    from matplotlib.figure import Figure

    starts = np.concatenate([[0.0], np.cumsum([length for _, length in lengths_s])])
    offset = {name: start for (name, _), start in zip(lengths_s, starts[:-1], strict=True)}
    keywords = results[0].score.keywords
    rows = len(results)
    height = max(2.2, 0.22 * len(keywords) + 1)
    figure = Figure(figsize=(14, height * rows + 0.6), layout="constrained")
    unit, name = (60, "min") if starts[-1] < 3 * 3600 else (3600, "h")
    if starts[-1] < 180:
        unit, name = 1, "s"
    for axes, result in zip(figure.subplots(rows, 1, squeeze=False, sharex=True)[:, 0], results, strict=True):
        for start in starts[1:-1] if len(starts) < 40 else ():
            axes.axvline(start / unit, color="0.85", linewidth=0.8)
        for kind, (what, marker, colour) in _STYLES.items():
            events = result.score.of_kind(kind)
            axes.scatter(
                [(offset[e.stream] + e.time_s) / unit for e in events],
                [keywords.index(e.keyword if kind in (FALSE_ACCEPT, GENUINE) else e.said) for e in events],
                marker=marker,
                color=colour,
                s=30,
                label=f"{what} ({len(events)})",
                zorder=1 if kind == HIT else 2,
            )
        axes.set_yticks(range(len(keywords)), keywords)
        axes.set(xlim=(0, starts[-1] / unit), ylim=(len(keywords) - 0.5, -0.5), title=result.condition.name)
        axes.grid(axis="y", alpha=0.2)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    axes.set_xlabel(f"time over all streams ({name}); false accepts by what was heard, the rest by what was said")
    figure.savefig(path, dpi=110)
