"""Results of a sweep as text, CSV, JSON and a plot, with the best trial as a recipe."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from host_tools.errors import SweepError
from host_tools.sweep.best import best_recipe
from host_tools.sweep.file import Sweep
from host_tools.sweep.outcome import DONE, STOPPED, Outcome, best_of, ranked, within
from host_tools.sweep.plot import plot_parallel
from kws_edge.files import write_atomically
from kws_edge.text import printable

__all__ = ["RESULTS", "read_results", "table", "write_results"]

RESULTS = "results.json"


def write_results(sweep: Sweep, outcomes: Sequence[Outcome], folder: Path) -> None:
    """Write ``results.json``, ``results.csv`` and ``parallel.png``, and ``best.toml`` if a trial keeps to the limits.

    Raises
    ------
    WriteError
        If the folder cannot be written.
    """
    best = best_of(sweep, outcomes)
    values = {
        "name": sweep.name,
        "asked": _asked(sweep),
        "objective": {"figure": str(sweep.objective), "maximize": sweep.maximize},
        "limits": [str(limit) for limit in sweep.limits],
        "best": best and best.number,
        "trials": [asdict(one) for one in sorted(outcomes, key=lambda one: one.number)],
    }
    write_atomically(folder / RESULTS, json.dumps(values, indent=1) + "\n")
    write_atomically(folder / "results.csv", _csv(sweep, outcomes))
    write_atomically(folder / "parallel.png", lambda path: plot_parallel(sweep, ranked(sweep, outcomes), path))
    if best:
        write_atomically(folder / "best.toml", best_recipe(sweep, best.number, best.values, best.figures, folder))
    else:
        (folder / "best.toml").unlink(missing_ok=True)


def read_results(sweep: Sweep, folder: Path) -> list[Outcome]:
    """The outcomes that ``results.json`` tells of, one for each trial of the sweep; without the file, all wait.

    Raises
    ------
    SweepError
        If the file is broken, or its trials are others than those of the sweep.
    """
    path = folder / RESULTS
    try:
        values = json.loads(path.read_bytes())
        found = [Outcome(**one) for one in values["trials"]]
        asked = values["asked"]
    except FileNotFoundError:
        return [Outcome(trial.number, trial.values) for trial in sweep.trials]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise SweepError(f"{path}: broken ({printable(str(error), most=200)}); remove it to begin anew") from None
    same = [(one.number, one.values) for one in found] == [(one.number, one.values) for one in sweep.trials]
    if not same or asked != _asked(sweep):
        raise SweepError(
            f"{path}: results of other trials than those of {sweep.path}; give the changed sweep another name,"
            f" or remove {folder}"
        )
    return found


def _asked(sweep: Sweep) -> dict[str, Any]:
    """What the figures of the trials depend on, besides the values of the axes. The bounds of limits may change."""
    options = {axis.name: list(axis.options) for axis in sweep.axes}
    common = {"recipe": sweep.recipe.name, "scale": sweep.scale, "set": dict(sweep.fixed), "options": options}
    return {**common, "figures": sorted(map(str, sweep.figures))}


def _columns(sweep: Sweep) -> list[str]:
    return [*(axis.name for axis in sweep.axes), *map(str, sweep.figures)]


def _csv(sweep: Sweep, outcomes: Sequence[Outcome]) -> str:
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["trial", *_columns(sweep), "state", "epoch", "within_limits"])
    for one in ranked(sweep, outcomes):
        cells = [_cell(one.values[axis.name]) for axis in sweep.axes]
        cells += [_cell(one.figures.get(str(figure))) for figure in sweep.figures]
        writer.writerow([one.number, *cells, one.state, _cell(one.epoch), int(within(sweep, one))])
    return lines.getvalue()


def _cell(value: Any) -> Any:
    return "" if value is None else value if isinstance(value, (int, float, str)) else json.dumps(value)


def table(sweep: Sweep, outcomes: Sequence[Outcome]) -> str:
    """The results for people, the best trial first. A star marks what keeps to the limits."""
    rows = [["trial", *_columns(sweep), "state"]]
    for one in ranked(sweep, outcomes):
        cells = [_text(one.values[axis.name]) for axis in sweep.axes]
        cells += [_text(one.figures.get(str(figure))) for figure in sweep.figures]
        state = f"{one.state} after epoch {one.epoch}" if one.state == STOPPED else one.state
        if one.state == DONE and sweep.limits:
            state = "done" if within(sweep, one) else "done, beyond the limits"
        rows.append([str(one.number), *cells, state])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) >= 1000 else f"{value:.4g}"
    return printable(",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value), most=30)
