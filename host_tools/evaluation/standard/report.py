"""The report of one model or more under the standard conditions: a table, a picture, and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from host_tools.evaluation.standard.conditions import WORDS
from host_tools.evaluation.standard.measure import AS_RECORDED
from kws_edge.files import write_atomically

if TYPE_CHECKING:  # matplotlib takes half a second to import
    from matplotlib.axes import Axes

__all__ = ["plot_det", "table", "write"]

Results = Mapping[str, Mapping[str, Any]]
"""What :func:`host_tools.evaluation.standard.measure.measure` gives, by the model's name."""
_MEASURES = {
    "heard": "commands heard",
    "wrong": "commands heard as another word",
    "fires": "other words that fire",
}
_WHERE = {"hiss": "alone between hiss", "gated": "alone behind a noise gate"}
_NONE = "not measured"
_MOST_MISSED = 40  # the DET curve leaves out more than this, so that the rest can be read


def write(results: Results, folder: Path) -> None:
    """Write ``table.md``, ``det.png`` and ``report.json`` to a folder.

    Raises
    ------
    WriteError
        If the folder cannot be written.
    """
    write_atomically(folder / "table.md", table(results))
    write_atomically(folder / "report.json", json.dumps(results, indent=1) + "\n")
    write_atomically(folder / "det.png", lambda path: plot_det(results, path))


def table(results: Results) -> str:
    """The results in Markdown, with a column for each model. Intervals are at 95 %."""
    rows = list(_rows(results))
    widths = [max(len(row[0]) for row in rows), *(max(map(len, cells)) for cells in list(zip(*rows, strict=True))[1:])]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    lines.insert(1, ["-" * width for width in widths])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _rows(results: Results) -> Iterator[list[str]]:
    def row(name: str, cell: Callable[[Any], str], *keys: str) -> list[str]:
        return [name, *(_NONE if (found := _at(v, keys)) is None else cell(found) for v in results.values())]

    yield ["", *results]
    yield row("smoothing, threshold, margin", _settings, "detector")
    for where, about in _WHERE.items():
        for measure, what in _MEASURES.items():
            keys = ("independent", where, measure)
            parts = next((found for v in results.values() if (found := _at(v, keys))), None)
            if parts is None:
                continue
            n = f"{parts['all']['recordings']:,} {what}, {about}"
            yield row(f"{n}: mean over {len(parts['collections'])} collections", _mean, *keys, "mean")
            yield row(f"{n}: all", _share, *keys, "all")
            for name, share in parts["collections"].items():
                yield row(f"collection {name}, {share['recordings']}", _share, *keys, "collections", name)
    for name, condition in WORDS.items():
        said = next((found for v in results.values() if (found := _at(v, ("words", name, "false_rejects")))), None)
        if said is None:
            continue
        behind = f" {next(iter(results.values()))['snr_db']:g} dB below" * bool(condition.behind)
        words = f"{said['words']:,} words {condition.about}{behind}"
        yield row(f"missed of {words}", _share, "words", name, "false_rejects")
        yield row("heard as another word, and heard twice", _wrong, "words", name)
        yield row("delay from the word's end, p50 and p95", _delay, "words", name, "delay_ms")
    for kind in dict.fromkeys(kind for v in results.values() for kind in v["negatives"]):
        first = next(v["negatives"][kind] for v in results.values() if kind in v["negatives"])
        hours = f"false accepts per hour of {kind}, {first['recorded_hours']:.2f} h"
        yield row(f"{hours}, under {len(first['conditions'])} conditions", _per_hour, "negatives", kind)
        yield row(f"{hours}, as recorded", _per_hour, "negatives", kind, "conditions", AS_RECORDED)
    yield row("multiply-accumulates a second of audio", lambda macs: f"{macs / 1e6:.1f} M", "macs_per_second")
    if any("test12" in values for values in results.values()):
        yield row("test12, INT8", lambda v: _percent(v["rate"], v["interval_95"], 2), "test12")


def _at(values: Any, keys: tuple[str, ...]) -> Any:
    """What lies at these keys; None if nothing does."""
    for key in keys:
        values = values.get(key) if values else None
    return values


def _percent(rate: float, interval: Sequence[float], digits: int = 1) -> str:
    share, low, high = (f"{100 * value:.{digits}f}" for value in (rate, *interval))
    return f"{share} % ({low} to {high})"


def _share(values: Mapping[str, Any]) -> str:
    if values["rate"] is None:
        return "none said"
    return _percent(values["rate"], values["interval_95"])


def _mean(values: Mapping[str, Any]) -> str:
    lowest, highest = 100 * values["lowest"], 100 * values["highest"]
    return f"{_share(values)}; {lowest:.1f} to {highest:.1f} by collection"


def _wrong(values: Mapping[str, Any]) -> str:
    return f"{values['confusions']} and {values['duplicates']['count']}"


def _delay(values: Mapping[str, float]) -> str:
    return f"{values['p50']:.0f} and {values['p95']:.0f} ms"


def _per_hour(values: Mapping[str, Any]) -> str:
    low, high = values["interval_95"]
    genuine = f"; {values['genuine']} genuine" if values.get("genuine") else ""
    return f"{values['per_hour']:.1f} ({low:.1f} to {high:.1f}), {values['count']} counted{genuine}"


def _settings(config: Mapping[str, Any]) -> str:
    every = [config["threshold"], *config["thresholds"].values()]
    thresholds = f"{min(every):g} to {max(every):g} by keyword" if len(every) > 1 else f"{every[0]:g}"
    return f"{config['smoothing_ms']:g} ms, {thresholds}, {config.get('speech_margin', 0):g}"


def plot_det(results: Results, path: str | Path) -> None:
    """Draw the models' DET curves, as PNG: errors under each condition over false accepts per hour of all negatives.

    A star marks the settings in use. If any model lacks errors or negatives, what there is is drawn over the threshold.
    """
    from matplotlib.figure import Figure

    panels = [name for name in WORDS if any(name in v["words"] for v in results.values())]
    panels += ["independent"] * any(v["independent"] for v in results.values())
    over_rate = all(v["negatives"] for v in results.values())
    columns = max(1, min(3, len(panels)))
    rows = max(1, -(-len(panels) // columns))
    figure = Figure(figsize=(1 + 4.6 * columns, 4.2 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, panel in zip(grid, panels, strict=False):
        curves = {name: curve for name, v in results.items() if (curve := _curve(panel, v)) is not None}
        for name, (own, errors) in curves.items():
            if over_rate:
                *rates, own_rate = _rates(results[name])
                (line,) = axes.plot(rates, errors, "o-", markersize=3, label=name)
                axes.plot(own_rate, own, "*", markersize=13, color=line.get_color(), markeredgecolor="k")
            else:
                axes.plot(_thresholds(results[name]), errors, "o-", markersize=3, label=name)
        strangers = panel == "independent"
        axes.set_title("independent commands, alone between hiss" if strangers else f"words {WORDS[panel].about}")
        axes.set_ylabel("not heard, mean over collections (%)" if strangers else "missed (%)")
        axes.set_ylim(0, min(100, 1.05 * max(_MOST_MISSED, *(own for own, _ in curves.values()))))
        _label_rates(axes, results) if over_rate else axes.set_xlabel("threshold")
    if not panels:
        for name, values in results.items():
            grid[0].plot(_thresholds(values), _rates(values)[:-1], "o-", markersize=3, label=name)
        grid[0].set(yscale="log", xlabel="threshold", ylabel="false accepts per hour")
    for axes in grid[: max(1, len(panels))]:
        axes.grid(alpha=0.3, which="both")
    for axes in grid[max(1, len(panels)) :]:
        axes.remove()
    grid[0].legend(title="star: the settings in use" if over_rate and panels else None)
    figure.savefig(path, dpi=110)


def _label_rates(axes: Axes, results: Results) -> None:
    kinds = next(iter(results.values()))["negatives"]
    axes.set(xscale="log", xlabel=f"false accepts per hour of {', '.join(kinds)}")


def _thresholds(values: Mapping[str, Any]) -> list[float]:
    return [point["threshold"] for point in values["det"]]


def _rates(values: Mapping[str, Any]) -> list[float]:
    """False accepts per hour of all negatives together, at each threshold and then with the settings in use.

    A logarithmic axis has no zero, so no false accept is drawn as half of one.
    """
    negatives = values["negatives"]
    hours = sum(kind["hours"] for kind in negatives.values())
    own = {kind: found["per_hour"] for kind, found in negatives.items()}
    each = [*(point["false_accepts_per_hour"] for point in values["det"]), own]
    return [max(0.5, sum(rates[kind] * negatives[kind]["hours"] for kind in negatives)) / hours for rates in each]


def _curve(panel: str, values: Mapping[str, Any]) -> tuple[float, list[float]] | None:
    """Percent missed with the settings in use, and at each threshold; None if that was not measured."""
    if panel == "independent":
        own = _at(values, ("independent", "hiss", "heard", "mean", "rate"))
        return own and (100 * (1 - own), [100 * (1 - point["independent"]["heard"]) for point in values["det"]])
    own = _at(values, ("words", panel, "false_rejects", "rate"))
    return None if own is None else (100 * own, [100 * point["missed"][panel] for point in values["det"]])
