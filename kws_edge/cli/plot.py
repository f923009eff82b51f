"""Draw a recording: waveform, log-mel, posteriors and detections over one time axis."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kws_edge.cli import options
from kws_edge.cli.parser import output_path
from kws_edge.detection.detector import Detection
from kws_edge.errors import ConfigError, UsageError, extra
from kws_edge.features.frontend import Frontend
from kws_edge.files import check_writable, write_atomically
from kws_edge.spotter import Spotter, Step, detector_of
from kws_edge.text import printable, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_S = 600
"""Longest recording that is drawn, in seconds."""


def add_plot(parser: argparse.ArgumentParser, about: str) -> None:
    """Add the option that names the picture."""
    parser.add_argument("--plot", type=output_path, metavar="PNG", help=about)


def check_plot(args: argparse.Namespace, *others: str | os.PathLike[str] | None) -> bool:
    """Return whether the user wants a picture. If it cannot be drawn, this raises before the work, not after it.

    Parameters
    ----------
    args : argparse.Namespace
        With the option of :func:`add_plot`.
    others : path or None
        Other files that the command writes.

    Raises
    ------
    ConfigError, WriteError
        If matplotlib is missing, or the file cannot be written.
    UsageError
        If the ending of the file names no format, or the command also reads or writes this file.
    """
    if args.plot is None:
        return False
    pyplot()
    from matplotlib.backend_bases import FigureCanvasBase

    known = FigureCanvasBase.get_supported_filetypes()
    ending = os.path.splitext(args.plot)[1][1:]
    if ending and ending.lower() not in known:
        raise UsageError(f"--plot {args.plot}: no picture has the ending {shown(ending)}; known are {', '.join(known)}")
    check_writable(args.plot, option="--plot", apart=[*options.inputs(args), *others])
    return True


class Recorder:
    """Collects the data of a plot while a recording called `name` is heard; `rate` is its sample rate in Hz."""

    def __init__(self, name: str, rate: int) -> None:
        self._name, self._rate = name, rate
        self._blocks: list[NDArray[np.int16]] = []
        self.steps: list[Step] = []

    def check(self, seconds: float | None) -> None:
        """Refuse a recording that is too long to draw, before it is heard. None means an unknown length.

        Raises
        ------
        ConfigError
            If the recording is longer than :data:`MAX_S`.
        """
        if seconds and seconds > MAX_S:
            raise ConfigError(
                f"--plot: {self._name}: {math.ceil(seconds)} s are too much to draw; cut it to at most {MAX_S} s"
            )

    def tap(self, blocks: Iterable[NDArray[np.int16]]) -> Iterator[NDArray[np.int16]]:
        """Pass on blocks, and keep a copy.

        Raises
        ------
        ConfigError
            As soon as the blocks are too long to draw.
        """
        n = 0
        for block in blocks:
            n += len(block)
            self.check(n / self._rate)
            self._blocks.append(block)
            yield block

    def step(self, step: Step) -> None:
        self.steps.append(step)

    @property
    def samples(self) -> NDArray[np.int16]:
        return np.concatenate(self._blocks)


def pyplot() -> Any:
    """Return matplotlib.pyplot, set up to draw into files.

    Raises
    ------
    ConfigError
        If matplotlib is missing.
    """
    try:
        import matplotlib
    except ImportError:
        raise ConfigError(f"plots need matplotlib: {extra('plot')}, or pip install matplotlib") from None
    matplotlib.use("Agg")
    import matplotlib.pyplot

    return matplotlib.pyplot


def write_plot(
    path: str | os.PathLike[str],
    recorder: Recorder,
    spotter: Spotter,
    detections: Sequence[Detection],
    *,
    title: str,
    spoken: Sequence[tuple[float, float, str]] = (),
) -> None:
    """Draw what was heard; `spoken` adds what was said, each as (start_s, end_s, word).

    Raises
    ------
    ConfigError
        If matplotlib is missing.
    WriteError
        If the file cannot be written.
    """
    plt = pyplot()
    c = spotter.model.frontend_config
    samples = recorder.samples
    duration = len(samples) / c.sample_rate
    figure, (wave, mel, post) = plt.subplots(
        3,
        1,
        sharex=True,
        figsize=(min(40, max(9, duration * 0.5)), 8),
        height_ratios=(1, 1.4, 1.6),
        layout="constrained",
    )
    wave.set_title(printable(f"{title}: {spotter.model.metadata.name}"), parse_math=False)
    _draw_wave(wave, samples, c.sample_rate, spoken)
    levels = Frontend(c).frames(samples)
    if len(levels):
        extent = (0, len(levels) * c.hop_length / c.sample_rate, 0, c.n_mels)
        mel.imshow(levels.T, origin="lower", aspect="auto", interpolation="nearest", extent=extent)
    mel.set(ylabel="mel band")
    colours = dict(zip(spotter.model.labels, plt.get_cmap("tab20").colors * 9, strict=False))
    _draw_posteriors(post, spotter, recorder.steps, colours)
    _draw_detections(post, detections, colours)
    post.set(xlabel="time (s)", ylabel="posterior, smoothed (thin: raw)", ylim=(0, 1.25), xlim=(0, duration))
    post.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    save_figure(figure, path)


def _draw_wave(axis: Any, samples: NDArray[np.int16], rate: int, spoken: Sequence[tuple[float, float, str]]) -> None:
    bins = max(1, len(samples) // 4000)
    folded = samples[: len(samples) // bins * bins].reshape(-1, bins) / 32768
    time = (np.arange(len(folded)) + 0.5) * bins / rate
    axis.fill_between(time, folded.min(axis=1), folded.max(axis=1), color="0.4", linewidth=0)
    peak = max(0.05, float(np.abs(folded).max()) * 1.1)
    axis.set(ylabel="amplitude", ylim=(-peak, peak))
    for start, end, word in spoken:
        axis.axvspan(start, end, color="tab:green", alpha=0.15, linewidth=0)
        axis.text((start + end) / 2, peak * 0.8, word, ha="center", color="tab:green", fontsize=9)


def _draw_posteriors(axis: Any, spotter: Spotter, steps: Sequence[Step], colours: Mapping[str, Any]) -> None:
    """Draw the posteriors of the keywords that are likely somewhere, and the thresholds that hold for them."""
    times = [step.time_s for step in steps]
    values = np.array([step.posteriors for step in steps])
    smoothed, needed = compared(spotter, steps)
    active = np.flatnonzero(spotter.detector.active)
    drawn = active[values[:, active].max(axis=0) > 0.2]
    for i in drawn:
        label, colour = spotter.model.labels[i], colours[spotter.model.labels[i]]
        axis.plot(times, values[:, i], color=colour, linewidth=0.6, alpha=0.5)
        axis.plot(times, smoothed[:, i], color=colour, label=label, linewidth=1.6)
    lines = dict.fromkeys(tuple(needed[:, i]) for i in (drawn if len(drawn) else active))
    for n, line in enumerate(lines):
        label = "threshold" if n == 0 else None
        axis.step(times, line, where="mid", color="0.5", linestyle=":", linewidth=1, label=label)


def _draw_detections(axis: Any, detections: Sequence[Detection], colours: Mapping[str, Any]) -> None:
    for found in detections:
        axis.plot(found.end_s, found.score, "o", color=colours[found.keyword], markersize=4)
        axis.axvspan(found.start_s, found.end_s, color=colours[found.keyword], alpha=0.12, linewidth=0)
        axis.annotate(
            f"{found.keyword}\n{found.score:.2f}",
            ((found.start_s + found.end_s) / 2, 1.02),
            ha="center",
            va="bottom",
            fontsize=9,
            color=colours[found.keyword],
        )


def save_figure(figure: Any, path: str | os.PathLike[str]) -> None:
    """Write a figure in the format of the file's ending (PNG if it has none), and close the figure.

    Raises
    ------
    WriteError, ConfigError
        If the file cannot be written, or the ending names no format.
    """
    try:
        write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=110), option="--plot")
    except ValueError as error:
        raise ConfigError(f"--plot {path}: cannot be written ({error})") from None
    finally:
        pyplot().close(figure)


def compared(spotter: Spotter, steps: Sequence[Step]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What the detector compared at each step: smoothed posteriors, and the thresholds that they had to reach.

    Both have shape (len(steps), len(labels)), float32. The smoothed posteriors are NaN in the refractory time, when the
    detector compares nothing.
    """
    replay = detector_of(spotter.model, spotter.detector_config)
    smoothed = np.full((len(steps), len(replay.labels)), np.nan, np.float32)
    needed = np.empty_like(smoothed)
    for i, step in enumerate(steps):
        found = replay.process(step.posteriors, step.time_s)
        needed[i] = replay.thresholds_in_speech if replay.in_speech else replay.thresholds
        if found:
            smoothed[i, replay.labels.index(found.keyword)] = found.score
        elif replay.smoothed.any():
            smoothed[i] = replay.smoothed
    return smoothed, needed
