"""The table of results, its JSON, and the plots."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill

from benchmarks.peers.pairs import ratio, regressions, spread

__all__ = ["Curve", "Results", "Row"]


@dataclass
class Row:
    """A comparison: the cost of ours, the cost of the other, and their ratio. A small ratio is good."""

    name: str
    """Key of the recorded ratio."""
    what: str
    other: str
    unit: str
    ours: dict[str, float]
    """Median and quartiles."""
    theirs: dict[str, float]
    ratio: dict[str, float]
    bar: float | None = None
    """What the ratio may be at most."""

    @property
    def holds(self) -> bool | None:
        """Whether the ratio keeps to the bar; None without a bar."""
        return None if self.bar is None else self.ratio["median"] <= self.bar


@dataclass
class Curve:
    """How a cost grows."""

    title: str
    x_label: str
    y_label: str
    lines: dict[str, list[tuple[float, float]]]


@dataclass
class Results:
    """All measurements."""

    machine: str
    date: str
    versions: dict[str, str]
    command: str
    rows: list[Row] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    """What is compared with nothing."""
    instructions: dict[str, float] = field(default_factory=dict)
    """A second of audio, in millions."""
    curves: list[Curve] = field(default_factory=list)

    def compare(self, name, what, other, ours, theirs, *, unit="ms", factor=1.0, bar=None) -> None:
        """Add a comparison of the values of each round. In `unit`, values are `factor` times as large."""
        scaled = ([factor * v for v in values] for values in (ours, theirs))
        self.rows.append(Row(name, what, other, unit, *map(spread, scaled), ratio(ours, theirs), bar))

    @property
    def ratios(self) -> dict[str, float]:
        """Median ratio of each comparison."""
        return {row.name: row.ratio["median"] for row in self.rows}

    def to_dict(self) -> dict:
        """The results as a JSON-ready dict."""
        return dataclasses.asdict(self) | {"ratios": self.ratios}

    def keep(self, old: dict) -> None:
        """Keep measurements of an earlier run that this run did not make."""
        for kind, key, make in (("rows", "name", Row), ("curves", "title", Curve)):
            mine = {getattr(entry, key): entry for entry in getattr(self, kind)}
            theirs = {entry[key]: make(**entry) for entry in old[kind]}
            setattr(self, kind, list({**theirs, **mine}.values()))
        self.figures = {**old["figures"], **self.figures}
        self.instructions = {**old["instructions"], **self.instructions}

    def table(self, recorded: dict[str, float]) -> str:
        """The results as Markdown: medians, each ratio with its quartiles, and the recorded ratio."""
        grown = regressions(self.ratios, recorded)
        lines = [
            f"{self.date}, {self.machine}. `{self.command}`. Medians of interleaved rounds, ratios with quartiles.",
            "",
            "| | against | ours | other | ratio | bar | recorded |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in self.rows:
            r = row.ratio
            bar = "" if row.bar is None else f"{row.bar:.4g}: {'holds' if row.holds else '**does not hold**'}"
            before = f"{recorded[row.name]:.3g}" if row.name in recorded else ""
            if row.name in grown:
                before += f", **{100 * (grown[row.name] - 1):.0f} % more now**"
            cells = [row.what, row.other, _amount(row.ours, row.unit), _amount(row.theirs, row.unit)]
            cells += [f"{r['median']:.3f} ({r['low']:.3f} to {r['high']:.3f})", bar, before]
            lines.append(f"| {' | '.join(cells)} |")
        if self.instructions:
            lines += ["", "| by callgrind | million instructions a second of audio |", "|---|---|"]
            lines += [f"| {name} | {count:.3g} |" for name, count in self.instructions.items()]
        lines += ["", "| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in self.figures.items())]
        lines += ["", "Versions: " + ", ".join(f"{name} {version}" for name, version in self.versions.items()) + "."]
        return "\n".join(lines) + "\n"

    def plot(self, folder: Path) -> None:
        """Draw every ratio with its quartiles and bar to ``ratios.png``, and how costs grow to ``curves.png``."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(13, 0.5 * len(self.rows) + 1), layout="constrained")
        axes = figure.subplots()
        for y, row in enumerate(reversed(self.rows)):
            r = row.ratio
            colour = "tab:red" if row.holds is False else "tab:green" if row.holds else "tab:blue"
            axes.plot([r["low"], r["high"]], [y, y], "-", color=colour)
            axes.plot(r["median"], y, "o", color=colour)
            if row.bar is not None:
                axes.plot(row.bar, y, "k|", markersize=12)
        axes.set_yticks(
            range(len(self.rows)), [fill(f"{row.what}, against {row.other}", 70) for row in reversed(self.rows)]
        )
        axes.set(xscale="log", xlabel="ours to the other; line: at most this")
        axes.grid(alpha=0.3, axis="x", which="both")
        figure.savefig(folder / "ratios.png", dpi=110)

        if not self.curves:
            return
        across = 3
        down = -(-len(self.curves) // across)
        figure = Figure(figsize=(5 * across, 3.6 * down), layout="constrained")
        for axes, curve in zip(figure.subplots(down, across, squeeze=False).flat, self.curves, strict=False):
            for label, points in curve.lines.items():
                axes.plot(*zip(*points, strict=True), "o-", label=label)
            highest = max(y for points in curve.lines.values() for _, y in points)
            axes.set(title=curve.title, xlabel=curve.x_label, ylabel=curve.y_label, ylim=(0, 1.1 * highest))
            axes.grid(alpha=0.3)
            if len(curve.lines) > 1:
                axes.legend()
        figure.savefig(folder / "curves.png", dpi=110)


def _amount(values: dict[str, float], unit: str) -> str:
    return f"{values['median']:.3g} {unit}"
