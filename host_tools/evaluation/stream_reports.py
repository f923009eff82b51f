"""What ``kws-host stream-eval`` reports: tables, JSON, pictures, and the sound of every false accept."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from host_tools.data.sound_files import write_sound
from host_tools.evaluation.mistakes import MOST, TABLE, check_unused, clip_name, posterior_columns, write_table
from host_tools.evaluation.scoring import (
    CONFUSION,
    DUPLICATE,
    EARLY_S,
    FALSE_ACCEPT,
    GENUINE,
    HIT,
    MISS,
    TOLERANCE_S,
    Event,
    Score,
)
from host_tools.evaluation.stream_inference import (
    THRESHOLDS,
    Condition,
    Stream,
    Track,
    hear_all,
    samples_of,
    score_heard,
)
from host_tools.locks import locked
from kws_edge.config import DetectorConfig, FrontendConfig
from kws_edge.detection.detector import Detector
from kws_edge.files import explained, write_atomically
from kws_edge.model.model import Model
from kws_edge.text import counted

__all__ = ["Result", "StreamReport", "evaluate_streams"]

_BEFORE_S, _AFTER_S = 1.4, 0.1  # of a false accept's decision; the window that decided and what was averaged with it
_AROUND_S = 1.0  # of a mistake that is cut out to be heard
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
_KINDS = {MISS: "missed word", CONFUSION: "confusion", FALSE_ACCEPT: "false accept"}
_MARKERS = {HIT: "|", MISS: "x", CONFUSION: "D", DUPLICATE: "+", FALSE_ACCEPT: "o", GENUINE: "^"}


@dataclass(frozen=True)
class Result:
    """What one condition gave."""

    condition: Condition
    score: Score
    """Of the live run, with the settings as they are."""
    sweep: tuple[tuple[float, Score], ...]
    """By threshold of every keyword."""
    tracks: dict[int, Track]
    """What was heard, by the number of the stream."""


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
            f"{self.model.metadata.name} on {counted(len(self.streams), 'stream')} of {first.hours:.3g} h with"
            f" {counted(first.words, 'keyword')}; threshold {c.threshold:g}"
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
        pieces = [
            _Piece(
                result.condition, number, event.time_s - _BEFORE_S, event.time_s + _AFTER_S,
                folder / _clip_name(event, result.condition, number),
            )
            for result in self.results
            for number, event in self._events(result)
            if event.kind == FALSE_ACCEPT
        ]  # fmt: skip
        self._cut_out(pieces, progress)

    def _events(self, result: Result) -> Iterator[tuple[int, Event]]:
        """What became of words and detections, with the number of the stream."""
        numbers = {str(self.streams[number].path): number for number in result.tracks}
        return ((numbers[event.stream], event) for event in result.score.events)

    def _cut_out(self, pieces: Iterable[_Piece], progress: Callable) -> None:
        """Write pieces of the streams as they were heard; each stream is read once."""
        rate = self.model.frontend_config.sample_rate
        pieces = sorted(pieces, key=lambda piece: (piece.condition.name, piece.number, piece.start_s))
        groups = [list(group) for _, group in itertools.groupby(pieces, lambda p: (p.condition, p.number))]
        for group in progress(groups, desc="cutting out", unit="stream", mininterval=0.5, disable=not groups):
            first = group[0]
            blocks = samples_of(self.streams[first.number], rate, first.condition, seed=first.number)
            for piece, samples in zip(group, _cut(blocks, group, rate), strict=True):
                write_sound(piece.path, samples, rate)

    def write_errors(self, folder: str | Path, *, most: int = MOST, progress: Callable = tqdm) -> str:
        """Cut out missed words, confusions and false accepts with a second around each, with a table of all of them.

        Of each kind the worst come first: words missed with the least posterior, and what was detected for nothing with
        the largest. Posteriors are averages as the detector takes them, at the time of the decision; of a missed word
        where its own is the largest.

        Parameters
        ----------
        folder : path
            New, or empty.
        most : int
            Sounds of each kind.

        Returns
        -------
        str
            What was written, for people.

        Raises
        ------
        DatasetError
            If the folder holds something.
        WriteError
            If it cannot be written.
        """
        check_unused(folder)
        folder, labels = Path(folder), self.model.labels
        rows: list[list] = [["file", "kind", "stream", "condition", "start_s", "end_s", "said", "heard", "at_s"]]
        rows[0] += posterior_columns(labels)
        pieces, counts = [], []
        for kind in (MISS, CONFUSION, FALSE_ACCEPT):
            wrong = sorted(self._mistakes(kind), key=lambda mistake: mistake.rank)
            counts.append(counted(len(wrong), _KINDS[kind]))
            for number, one in enumerate(wrong, 1):
                event, path = one.event, ""
                if number <= most:
                    path = folder / one.name(_NAMES[kind].replace(" ", "_"), number)
                    start_s, end_s = event.start_s - _AROUND_S, event.time_s + _AROUND_S
                    pieces.append(_Piece(one.condition, one.number, start_s, end_s, path))
                what = [path and path.name, _NAMES[kind], event.stream, one.condition.name, event.start_s, event.time_s]
                rows.append([*what, event.said, event.keyword, one.at_s, *map(float, one.posteriors)])
        with locked(folder):
            self._cut_out(pieces, progress)
            write_table(folder, rows)
        return (
            f"wrote {folder}: {', '.join(counts)} in {TABLE}; the sound of {len(pieces)} of them, the worst of each"
            " kind first"
        )

    def _mistakes(self, kind: str) -> Iterator[_Mistake]:
        for result in self.results:
            smoothed = {number: _smoothed(track, self.config) for number, track in result.tracks.items()}
            for number, event in self._events(result):
                if event.kind == kind:
                    yield _mistake(event, result.condition, number, result.tracks[number], smoothed[number])


@dataclass(frozen=True)
class _Piece:
    """Of a stream, to be written to a file."""

    condition: Condition
    number: int
    """Of the stream."""
    start_s: float
    end_s: float
    path: Path


@dataclass(frozen=True)
class _Mistake:
    """A word that was missed, or a detection that is wrong."""

    event: Event
    condition: Condition
    number: int
    """Of the stream."""
    at_s: float
    posteriors: np.ndarray
    """Averages of all labels at that time."""
    rank: float
    """The lower, the worse."""

    def name(self, kind: str, number: int) -> str:
        """Of its file."""
        event = self.event
        what = filter(None, (event.said, event.keyword and f"as_{event.keyword}", f"{abs(self.rank):.2f}"))
        where = (Path(event.stream).stem[:100], f"{event.time_s:.2f}s{_how(self.condition)}")
        return clip_name(kind, f"{number:04}", *what, *where)


def _smoothed(track: Track, config: DetectorConfig) -> np.ndarray:
    """Averages that end at each window, as the detector takes them; float32, of the posteriors' shape."""
    n = Detector(track.labels, config, step_s=track.step_s, clip_s=track.clip_s).smoothing_steps
    total = np.cumsum(track.posteriors(), axis=0, dtype=np.float64)
    total[n:] -= total[:-n].copy()
    total[: n - 1] = 0
    return (total / n).astype(np.float32)


def _mistake(event: Event, condition: Condition, number: int, track: Track, smoothed: np.ndarray) -> _Mistake:
    times = track.times_s
    if event.kind != MISS:
        at = min(int(np.searchsorted(times, event.time_s - 1e-6)), len(times) - 1)
        return _Mistake(event, condition, number, event.time_s, smoothed[at], -event.score)
    label = track.labels.index(event.said)
    span = np.flatnonzero((times >= event.start_s + EARLY_S) & (times <= event.time_s + TOLERANCE_S))
    if not len(span):
        return _Mistake(event, condition, number, event.time_s, np.zeros_like(smoothed[0]), 0.0)
    at = span[smoothed[span, label].argmax()]
    return _Mistake(event, condition, number, float(times[at]), smoothed[at], float(smoothed[at, label]))


def evaluate_streams(
    model: str | Path,
    streams: Sequence[Stream],
    *,
    config: DetectorConfig | None = None,
    conditions: Sequence[Condition] = (Condition(),),
    thresholds: Sequence[float] = THRESHOLDS,
    kernels: str = "fast",
    labels: Sequence[str] | None = None,
    frontend_config: FrontendConfig | None = None,
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
    loaded = Model(model, labels=labels, frontend_config=frontend_config, kernels=kernels)
    config = config or loaded.detector_config
    every = hear_all(
        model,
        streams,
        config,
        conditions=conditions,
        thresholds=thresholds,
        kernels=kernels,
        labels=labels,
        frontend_config=frontend_config,
        workers=workers,
        progress=progress,
    )
    results, heard = [], iter(every)
    for condition in conditions:
        numbers = [number for number, stream in enumerate(streams) if condition.takes(stream)]
        taken = [streams[number] for number in numbers]
        part = list(itertools.islice(heard, len(taken)))
        tracks = [h.track for h in part]
        sweep = tuple(
            (threshold, score_heard(taken, tracks, [h.swept[i] for h in part], config))
            for i, threshold in enumerate(thresholds)
        )
        score = score_heard(taken, tracks, [h.detections for h in part], config)
        results.append(Result(condition, score, sweep, dict(zip(numbers, tracks, strict=True))))
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
    names = ("false_rejects", "false_accepts", "false_accepts_without_words", "confusions")
    return {"threshold": threshold, **{name: values[name] for name in names}}


def _event(event: Event) -> dict:
    values = asdict(event)
    for name in ("start_s", "time_s", "score", "delay_s"):
        values[name] = values[name] and round(values[name], 4)
    return values


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


def _row(name: str, values: dict, mixed: bool) -> str:
    columns = f"{name:<16} {_rejects(values['false_rejects']):<33} {_accepts(values['false_accepts']):<41}"
    return (columns + _accepts(values["false_accepts_without_words"]) * mixed).rstrip()


def _tables(result: Result) -> list[str]:
    values = result.score.to_dict()
    on_words = sum(e.said is not None for e in result.score.of_kind(FALSE_ACCEPT))
    delay = values["delay_ms"]
    duplicates = values["duplicates"]
    hours = values["hours_without_words"]
    mixed = 0 < hours < values["hours"]
    header = f"{result.condition.name:<16} {'false rejects (95 % interval)':<33} false accepts per hour (95 % interval)"
    lines = [
        header + f"   in the {hours:.3g} h without words" * mixed,
        _row("all", values, mixed),
        *(_row(f"  {word}", v, mixed) for word, v in values["keywords"].items()),
        f"{values['confusions']} confused with another keyword, {duplicates['count']} heard twice"
        + (f", {on_words} of the false accepts on other words" if on_words else "")
        + (f", {values['genuine']} genuine, by the list of what is also said" if values["genuine"] else "")
        + (f"; decided {delay['p50']:.0f} ms after the word's end (p50), {delay['p95']:.0f} ms (p95)" if delay else ""),
    ]
    if result.sweep:
        lines += ["threshold", *(_row(f"  {t:.2f}", _point(t, score), mixed) for t, score in result.sweep)]
    return lines


def _how(condition: Condition) -> str:
    """The condition in a file's name; nothing for the plain one."""
    how = f"_{condition.gain_db:+g}dB" + "_room" * condition.room + "_gated" * condition.gated
    return "" if condition == Condition() else how


def _clip_name(event: Event, condition: Condition, number: int) -> str:
    """Source, time, keyword and score; the number of the stream tells apart files of one name."""
    source, time = Path(event.stream).stem[:100], f"{event.time_s:.2f}s"
    return clip_name(f"{number:04}", source, time, event.keyword, f"{event.score:.2f}{_how(condition)}")


def _cut(blocks: Iterator[np.ndarray], pieces: Sequence[_Piece], rate: int) -> Iterator[np.ndarray]:
    """The samples of pieces of a stream, which are in order of their starts."""
    kept, start = np.zeros(0, np.int16), 0  # `start`: the number of the first sample that is kept
    for piece in pieces:
        first, last = max(0, round(piece.start_s * rate)), round(piece.end_s * rate)
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
        if 0 < result.score.wordless.seconds < result.score.seconds:
            quiet = [max(0.5, s.wordless.false_accepts) / s.wordless.hours for _, s in result.sweep]
            axes.plot(quiet, rejects, ":", color=line.get_color(), label=f"{label}: per hour without words")
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
