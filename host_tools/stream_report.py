"""What ``kws-host stream-eval`` reports: tables, JSON, pictures, and the sound of every false accept."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from host_tools.locks import locked
from host_tools.scoring import CONFUSION, DUPLICATE, FALSE_ACCEPT, GENUINE, HIT, MISS, Event, Score
from host_tools.sound import write_sound
from host_tools.stream_eval import THRESHOLDS, Condition, Stream, hear_all, samples_of, score_heard
from kws_edge.config import DetectorConfig, FrontendConfig
from kws_edge.files import explained, write_atomically
from kws_edge.model import Model

__all__ = ["Result", "StreamReport", "evaluate_streams"]

_BEFORE_S, _AFTER_S = 1.4, 0.1  # of a false accept's decision; the window that decided and what was averaged with it
_SHOWN_PERCENT = 50  # false rejects above this are off the DET curve, so that the rest can be read
_COLOURS = {
    HIT: "0.75",
    MISS: "tab:red",
    CONFUSION: "tab:purple",
    DUPLICATE: "tab:blue",
    FALSE_ACCEPT: "tab:orange",
    GENUINE: "tab:green",
}
_NAMES = {
    MISS: "missed",
    CONFUSION: "confused",
    DUPLICATE: "duplicate",
    FALSE_ACCEPT: "false accept",
    GENUINE: "genuine",
    HIT: "heard",
}
_MARKERS = {HIT: "|", MISS: "x", CONFUSION: "D", DUPLICATE: "+", FALSE_ACCEPT: "o", GENUINE: "^"}


@dataclass(frozen=True)
class Result:
    """What one condition gave."""

    condition: Condition
    score: Score
    """Of the live run, with the settings as they are."""
    sweep: tuple[tuple[float, Score], ...]
    """By threshold of every keyword."""


@dataclass(frozen=True)
class StreamReport:
    """Results of :func:`evaluate_streams`."""

    model: Model
    config: DetectorConfig
    streams: tuple[Stream, ...]
    lengths_s: tuple[float, ...]
    results: tuple[Result, ...]
    rtf: float
    """Processor time of the chain over the length of the audio."""

    def to_dict(self) -> dict:
        """The results as a JSON-ready dict; of the events all but the hits."""
        return {
            "model": self.model.metadata.name or self.model.path,
            "detector": self.config.to_dict(),
            "streams": [
                {"file": str(s.path), "labels": s.labels and str(s.labels), "seconds": round(length, 3)}
                for s, length in zip(self.streams, self.lengths_s, strict=True)
            ],
            "rtf": round(self.rtf, 5),
            "conditions": [
                {
                    "name": r.condition.name,
                    **asdict(r.condition),
                    **r.score.to_dict(),
                    "det": [_point(threshold, score) for threshold, score in r.sweep],
                    "events": [_event(e) for e in r.score.events if e.kind != HIT],
                }
                for r in self.results
            ],
        }

    def table(self) -> str:
        """The results for people."""
        c, first = self.config, self.results[0].score
        thresholds = ", ".join(f"{word} {value:g}" for word, value in c.thresholds.items())
        lines = [
            f"{self.model.metadata.name} on {len(self.streams)} {_plural('stream', len(self.streams))} of"
            f" {first.hours:.3g} h with {first.words} {_plural('keyword', first.words)}; threshold {c.threshold:g}"
            + (f" ({thresholds})" if thresholds else "")
            + f", smoothing {c.smoothing_ms:g} ms, refractory {c.refractory_ms:g} ms, step {c.step_ms:g} ms",
            f"one core takes {3600 * self.rtf:.0f} s for an hour of stream (RTF {self.rtf:.4f})",
        ]
        for result in self.results:
            lines += ["", *_tables(result)]
        return "\n".join(lines)

    def write(self, folder: str | Path, *, progress: Callable = tqdm) -> None:
        """Write ``report.json``, ``det.png``, ``timeline.png`` and ``false_accepts/*.wav``.

        Clips of an earlier report in `folder` are removed.

        Raises
        ------
        WriteError
            If the folder cannot be written.
        """
        folder = Path(folder)
        with locked(folder, wait=True):
            write_atomically(folder / "report.json", json.dumps(self.to_dict(), indent=1) + "\n")
            write_atomically(folder / "det.png", lambda path: plot_det(self, path))
            write_atomically(folder / "timeline.png", lambda path: plot_timeline(self, path))
            with explained(folder / "false_accepts"):
                self._write_clips(folder / "false_accepts", progress)

    def _write_clips(self, folder: Path, progress: Callable) -> None:
        folder.mkdir(exist_ok=True)
        for old in folder.glob("[0-9][0-9][0-9][0-9]_*s_*_*.wav"):
            old.unlink()
        rate = self.model.front_end.sample_rate
        jobs = [
            (result.condition, number, stream, events)
            for result in self.results
            for number, stream in enumerate(self.streams)
            if (events := [e for e in result.score.of_kind(FALSE_ACCEPT) if e.stream == str(stream.path)])
        ]
        for condition, number, stream, events in progress(
            jobs, desc="false accepts", unit="stream", mininterval=0.5, disable=not jobs
        ):
            blocks = samples_of(stream, rate, condition, seed=number)
            for event, samples in zip(events, _cut(blocks, events, rate), strict=True):
                write_sound(folder / _clip_name(event, condition, number), samples, rate)


def evaluate_streams(
    model: str | Path,
    streams: Sequence[Stream],
    *,
    config: DetectorConfig | None = None,
    conditions: Sequence[Condition] = (Condition(),),
    thresholds: Sequence[float] = THRESHOLDS,
    kernels: str = "fast",
    labels: Sequence[str] | None = None,
    front_end: FrontendConfig | None = None,
    workers: int | None = None,
    progress: Callable = tqdm,
) -> StreamReport:
    """Hear every stream under every condition and score it; the parameters are those of :func:`hear_all`.

    Parameters
    ----------
    config : DetectorConfig, optional
        In place of the model's own.
    conditions : sequence of Condition
        The first takes all streams, and each some.
    """
    loaded = Model(model, labels=labels, front_end=front_end, kernels=kernels)
    config = config or loaded.detector
    every = hear_all(
        model,
        streams,
        config,
        conditions=conditions,
        thresholds=thresholds,
        kernels=kernels,
        labels=labels,
        front_end=front_end,
        workers=workers,
        progress=progress,
    )
    results, heard = [], iter(every)
    for condition in conditions:
        taken = [stream for stream in streams if condition.takes(stream)]
        part = list(itertools.islice(heard, len(taken)))
        tracks = [h.track for h in part]
        sweep = tuple(
            (threshold, score_heard(taken, tracks, [h.swept[i] for h in part], config))
            for i, threshold in enumerate(thresholds)
        )
        results.append(Result(condition, score_heard(taken, tracks, [h.detections for h in part], config), sweep))
    audio_s = sum(h.track.duration_s for h in every)
    return StreamReport(
        loaded,
        config,
        tuple(streams),
        tuple(h.track.duration_s for h in every[: len(streams)]),
        tuple(results),
        sum(h.cpu_s for h in every) / audio_s,
    )


def _point(threshold: float, score: Score) -> dict:
    """A point of the DET curve."""
    values = score.to_dict()
    return {
        "threshold": threshold,
        "false_rejects": values["false_rejects"],
        "false_accepts": values["false_accepts"],
        "confusions": values["confusions"],
    }


def _event(event: Event) -> dict:
    values = asdict(event)
    for name in ("time_s", "score", "delay_s"):
        values[name] = values[name] and round(values[name], 4)
    return values


def _plural(noun: str, n: int) -> str:
    return noun if n == 1 else noun + "s"


def _rejects(values: dict) -> str:
    if not values["words"]:
        return "none said"
    low, high = values["interval_95"]
    return f"{100 * values['rate']:6.2f} % of {values['words']:<4} ({100 * low:.2f} to {100 * high:.2f})"


def _accepts(values: dict) -> str:
    if values["per_hour"] is None:
        return ""
    low, high = values["interval_95"]
    return f"{values['per_hour']:7.2f} ({low:.2f} to {high:.2f}), {values['count']} counted"


def _row(name: str, values: dict) -> str:
    return f"{name:<16} {_rejects(values['false_rejects']):<33} {_accepts(values['false_accepts'])}".rstrip()


def _tables(result: Result) -> list[str]:
    values = result.score.to_dict()
    on_words = sum(e.said is not None for e in result.score.of_kind(FALSE_ACCEPT))
    delay = values["delay_ms"]
    duplicates = values["duplicates"]
    lines = [
        f"{result.condition.name:<16} {'false rejects (95 % interval)':<33} false accepts per hour (95 % interval)",
        _row("all", values),
        *(_row(f"  {word}", v) for word, v in values["keywords"].items()),
        f"{values['confusions']} confused with another keyword, {duplicates['count']} heard twice"
        + (f", {on_words} of the false accepts on other words" if on_words else "")
        + (f", {values['genuine']} genuine, by the list of what is also said" if values["genuine"] else "")
        + (f"; decided {delay['p50']:.0f} ms after the word's end (p50), {delay['p95']:.0f} ms (p95)" if delay else ""),
    ]
    if result.sweep:
        lines += ["threshold", *(_row(f"  {t:.2f}", _point(t, score)) for t, score in result.sweep)]
    return lines


def _clip_name(event: Event, condition: Condition, number: int) -> str:
    """Source, time, keyword and score; the number of the stream tells apart files of one name."""
    how = f"_{condition.gain_db:+g}dB" + "_room" * condition.room + "_gated" * condition.gated
    how = "" if condition == Condition() else how
    name = f"{number:04}_{Path(event.stream).stem[:100]}_{event.time_s:.2f}s_{event.keyword}_{event.score:.2f}{how}"
    return re.sub(r"[^\w.+-]", "_", name) + ".wav"


def _cut(blocks: Iterator[np.ndarray], events: Sequence[Event], rate: int) -> Iterator[np.ndarray]:
    """The samples around the events of a stream, which are in order of time."""
    kept, start = np.zeros(0, np.int16), 0  # `start`: the number of the first sample that is kept
    for event in events:
        first = max(0, round((event.time_s - _BEFORE_S) * rate))
        last = round((event.time_s + _AFTER_S) * rate)
        while start + len(kept) < last and (block := next(blocks, None)) is not None:
            kept = np.concatenate([kept, block])
            drop = min(max(0, first - start), len(kept))
            kept, start = kept[drop:], start + drop
        yield kept[max(0, first - start) : last - start]


def plot_det(report: StreamReport, path: str | Path) -> None:
    """False rejects over false accepts per hour, as PNG; over the threshold where one of both cannot be had."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots()
    has_words = report.results[0].score.words > 0
    for result in report.results:
        thresholds = [t for t, _ in result.sweep]
        # No false accept at all has no place on a logarithmic axis: it is drawn at half an event.
        rates = [max(0.5, s.false_accepts) / s.hours for _, s in result.sweep]
        label = result.condition.name
        if not has_words:
            axes.plot(thresholds, rates, "o-", label=label)
            continue
        rejects = [100 * s.false_reject_rate for _, s in result.sweep]
        (line,) = axes.plot(rates, rejects, "o-", markersize=4, label=label)
        named = list(zip(thresholds, rates, rejects, strict=True))[::2] if len(report.results) <= 2 else ()
        for threshold, x, y in named:
            axes.annotate(
                f"{threshold:g}",
                (x, y),
                textcoords="offset points",
                xytext=(5, 4),
                fontsize=8,
                color=line.get_color(),
            )
        s = result.score
        axes.plot(
            max(0.5, s.false_accepts) / s.hours,
            100 * s.false_reject_rate,
            "*",
            markersize=14,
            color=line.get_color(),
            markeredgecolor="k",
            label="the settings in use" if result is report.results[-1] else None,
        )
    hours = report.results[0].score.hours
    title = f"{report.model.metadata.name}: {hours:.2f} h, {report.results[0].score.words} keywords"
    floor = f"false accepts per hour (none counted: drawn at {0.5 / hours:.2g})"
    if has_words:
        axes.set(xscale="log", xlabel=floor, ylabel="false rejects (%)", title=title)
        shown = [y for line in axes.get_lines() for y in line.get_ydata() if y <= _SHOWN_PERCENT]
        axes.set_ylim(0, 1.2 * max(shown, default=100 / 1.2) + 1)
        _plain_decades(axes.xaxis)
    else:
        axes.set(yscale="log", xlabel="threshold", ylabel=floor, title=title)
        _plain_decades(axes.yaxis)
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _plain_decades(axis) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5, as plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def plot_timeline(report: StreamReport, path: str | Path) -> None:
    """What was heard, missed, confused and falsely accepted over the time of all streams, as PNG."""
    from matplotlib.figure import Figure

    starts = np.concatenate([[0.0], np.cumsum(report.lengths_s)])
    offset = {str(s.path): start for s, start in zip(report.streams, starts[:-1], strict=True)}
    keywords = report.results[0].score.keywords
    rows = len(report.results)
    height = max(2.2, 0.22 * len(keywords) + 1)
    figure = Figure(figsize=(14, height * rows + 0.6), layout="constrained")
    unit, name = (60, "min") if starts[-1] < 3 * 3600 else (3600, "h")
    if starts[-1] < 180:
        unit, name = 1, "s"
    for axes, result in zip(figure.subplots(rows, 1, squeeze=False, sharex=True)[:, 0], report.results, strict=True):
        for start in starts[1:-1] if len(starts) < 40 else ():
            axes.axvline(start / unit, color="0.85", linewidth=0.8)
        for kind in (HIT, GENUINE, DUPLICATE, FALSE_ACCEPT, CONFUSION, MISS):
            events = result.score.of_kind(kind)
            axes.scatter(
                [(offset[e.stream] + e.time_s) / unit for e in events],
                [keywords.index(e.keyword if kind in (FALSE_ACCEPT, GENUINE) else e.said) for e in events],
                marker=_MARKERS[kind],
                color=_COLOURS[kind],
                s=30,
                label=f"{_NAMES[kind]} ({len(events)})",
                zorder=1 if kind == HIT else 2,
            )
        axes.set_yticks(range(len(keywords)), keywords)
        axes.set(xlim=(0, starts[-1] / unit), ylim=(len(keywords) - 0.5, -0.5), title=result.condition.name)
        axes.grid(axis="y", alpha=0.2)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    axes.set_xlabel(f"time over all streams ({name}); false accepts by what was heard, the rest by what was said")
    figure.savefig(path, dpi=110)
