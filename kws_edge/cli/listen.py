"""``kws-edge listen``: hear keywords live, from the microphone or a pipe."""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from kws_edge.audio.level import FLOOR_DB, Mute, level_db
from kws_edge.audio.pipe import PcmStream
from kws_edge.audio.source import LiveSource, Source
from kws_edge.audio_limits import MAX_CHANNELS, MAX_RATE, MIN_RATE
from kws_edge.cli import options
from kws_edge.cli.guard import interrupt
from kws_edge.cli.me import add_only_me
from kws_edge.cli.say import say
from kws_edge.cli.taught import add_taught
from kws_edge.detection.detector import Detector
from kws_edge.detection.records import as_json, as_text
from kws_edge.diagnostics.latency import Stopwatch, wall_clock
from kws_edge.errors import UsageError
from kws_edge.ranges import number, whole
from kws_edge.spotter import Spotter, Step
from kws_edge.text import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kws_edge.audio.capture import Capture
    from kws_edge.cli.parser import Commands

_MOST_S = 366 * 86_400
_EXEC_S = 60.0
_METER_WIDTH = 24


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "listen",
        help="hear keywords live",
        description="Hear keywords live. With -, standard input is read: raw signed 16-bit PCM, for example "
        "`arecord -f S16_LE -r 16000 -c 1 | kws-edge listen -`, or audio of a format that is recognised, such as WAV. "
        "Ctrl-C ends listening, with exit status 0.",
    )
    parser.add_argument("source", nargs="?", metavar="-", help="read standard input instead of a microphone")
    add_source(parser)
    parser.add_argument(
        "--seconds", type=number(0.001, _MOST_S), metavar="S", help="stop after this much audio; default: never"
    )
    options.add_model(parser)
    options.add_detector(parser)
    options.add_room(parser)
    add_taught(parser)
    add_only_me(parser)
    parser.add_argument(
        "--json", action="store_true", help="one JSON object per detection and line, with its wall-clock time"
    )
    parser.add_argument(
        "--stats", action="store_true", help='at the end, latency by stage; with --json as a last line {"stats": ...}'
    )
    add_hooks(parser)
    parser.set_defaults(run=run)


def add_source(parser: argparse.ArgumentParser, what: str = "standard input, where it is raw PCM") -> None:
    """Add the options that choose a microphone, or describe `what` is heard instead."""
    group = add_microphone(parser, f"rate of {what}, or to open the microphone at; default: the model's")
    group.add_argument("--channels", type=whole(1, MAX_CHANNELS), default=1, metavar="N", help=f"channels of {what}")


def add_microphone(parser: argparse.ArgumentParser, rate: str) -> argparse._ArgumentGroup:
    """Add the options that choose a microphone and its rate, and return their group; `rate` is help on the rate."""
    group = parser.add_argument_group("audio")
    group.add_argument(
        "--device",
        metavar="N|NAME",
        help="microphone: number or part of its name (kws-edge devices); default: the system's",
    )
    group.add_argument("--rate", type=whole(MIN_RATE, MAX_RATE), metavar="HZ", help=rate)
    return group


def check_device(args: argparse.Namespace, heard: str) -> None:
    """Refuse ``--device`` when something else than a microphone is heard.

    Raises
    ------
    UsageError
        If the option is given.
    """
    if args.device is not None:
        raise UsageError(f"--device {args.device}: {heard} is heard, and no microphone; leave one of them out")


def add_hooks(parser: argparse.ArgumentParser) -> None:
    """Add the options that name commands to run when a keyword is heard."""
    group = parser.add_argument_group("commands to run")
    group.add_argument(
        "--exec",
        action="append",
        default=[],
        metavar="[KEYWORD=]COMMAND",
        help="run COMMAND when KEYWORD, or any keyword, is heard; repeatable. Its words may hold {keyword}, {score}, "
        "{start_s}, {end_s}, {time}; its environment has KWS_KEYWORD and so on. Its output goes to standard error",
    )
    group.add_argument("--exec-shell", action="store_true", help="let /bin/sh run the commands")
    group.add_argument(
        "--exec-timeout",
        type=number(0.1, _MOST_S),
        metavar="S",
        help=f"end a command that runs for longer; default {_EXEC_S:g}",
    )


def open_hooks(
    args: argparse.Namespace, spotter: Spotter
) -> contextlib.AbstractContextManager[Callable[[Step], None] | None]:
    """Return the hooks that the options ask for."""
    if not args.exec:
        if args.exec_shell or args.exec_timeout is not None:
            raise UsageError("--exec-shell and --exec-timeout are about commands; give one with --exec")
        return contextlib.nullcontext()
    from kws_edge.cli.hooks import Command, Hooks

    commands = [Command.of_option(one, spotter.keywords, shell=args.exec_shell) for one in args.exec]
    return Hooks(commands, limit_s=args.exec_timeout or _EXEC_S, notice=say)


def open_source(args: argparse.Namespace, rate: int, *, piped: bool, capture: Capture | None = None) -> Source:
    """Open standard input, or the microphone that the options choose; `capture` may be a process started earlier."""
    if piped:
        if sys.stdin.isatty():
            raise UsageError(
                "standard input is a terminal; send audio into it: arecord -f S16_LE -r 16000 | kws-edge ..."
            )
        return PcmStream(
            sys.stdin.buffer, sample_rate=rate, source_rate=args.rate, channels=args.channels, name="standard input"
        )
    from kws_edge.audio.microphone import Microphone

    return Microphone(args.device, sample_rate=rate, device_rate=args.rate, notice=say, capture=capture)


def run(args: argparse.Namespace) -> None:
    if args.source not in (None, "-"):
        raise UsageError(f"listen takes - for standard input, got {args.source!r}; for files: kws-edge detect")
    if piped := args.source == "-":
        check_device(args, "standard input")
    with contextlib.nullcontext() if piped else _capture() as capture:  # it lists devices while the model loads
        model = options.load_model(args)
        spotter = options.load_spotter(args, model)
        hooks = open_hooks(args, spotter)
        # A supervisor's SIGTERM ends as Ctrl-C does.
        signal.signal(signal.SIGTERM, interrupt)
        source = open_source(args, model.frontend_config.sample_rate, piped=piped, capture=capture)
        with hooks as on_step:
            listen(
                spotter,
                source,
                as_lines=args.json,
                name="-" if piped else "microphone",
                seconds=args.seconds,
                stats=args.stats,
                on_step=on_step,
            )


def _capture() -> Capture:
    from kws_edge.audio.capture import Capture  # not needed for a pipe

    return Capture()


def level_bar(level: float) -> str:
    """A level in dB of full scale, as a bar and a number."""
    bar = "#" * round(_METER_WIDTH * (1 - level / FLOOR_DB))
    return f"[{bar:<{_METER_WIDTH}}] {level:4.0f} dBFS"


class Meter:
    """Shows level, wake word and best posterior on one line of a terminal. Without a terminal it shows nothing."""

    def __init__(self) -> None:
        self.shown = sys.stdout.isatty()

    def clear(self) -> None:
        if self.shown:
            sys.stdout.write("\r\x1b[K")

    def draw(self, block: NDArray[np.int16], detector: Detector, lost_s: float) -> None:
        if not self.shown:
            return
        level = level_db(block)
        best = int(detector.smoothed.argmax())
        text = f"{level_bar(level)}  "
        if detector.armed:
            text += "armed  "
        text += f"{detector.labels[best]} {detector.smoothed[best]:.2f}"
        if lost_s:
            text += f"  {lost_s:.1f} s lost"
        sys.stdout.write("\r\x1b[K" + text[: shutil.get_terminal_size().columns - 1])
        sys.stdout.flush()


def listen(
    spotter: Spotter,
    source: Source,
    *,
    as_lines: bool,
    name: str,
    seconds: float | None = None,
    stats: bool = False,
    tap: Callable[[Iterable[NDArray[np.int16]]], Iterable[NDArray[np.int16]]] | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> None:
    """Print the detections of a live source until the source ends, `seconds` have passed, or Ctrl-C.

    Parameters
    ----------
    spotter : Spotter
    source : Source
    as_lines : bool
        Print JSON lines.
    name : str
        Name of the source in the lines.
    seconds : float, optional
        Audio to hear; None has no limit.
    stats : bool
        Print the latency of each stage at the end.
    tap : callable, optional
        Passes on the blocks, and sees them.
    on_step : callable, optional
        Called with every inference.
    """
    meter = Meter() if not as_lines else None
    c = spotter.model.frontend_config
    mute = Mute(c.sample_rate, say)
    live_source = source if isinstance(source, LiveSource) else None
    source.stopwatch = spotter.stopwatch = watch = Stopwatch(spotter.step_s, helper=source.helper)
    found = 0

    def taken() -> Iterator[NDArray[np.int16]]:
        blocks = limited(spotter.follow(source), seconds, c.sample_rate)
        for i, block in enumerate(tap(blocks) if tap else blocks):
            if i == 0:  # a sound server takes a moment: listening begins only now
                say(f"listening to {source.name} for {_what(spotter)}; Ctrl-C ends")
            yield block
            mute.hear(block, live_source.outages if live_source else 0)
            if meter:
                meter.draw(block, spotter.detector, source.lost_samples / c.sample_rate)
            source.want(spotter.samples_to_step / c.sample_rate)
        watch.close()

    with source:
        try:
            for step in spotter.steps(taken()):
                if on_step:
                    on_step(step)
                if step.detection:
                    found += 1
                    if meter:
                        meter.clear()
                    if as_lines:
                        print(as_json(name, step.detection, time=wall_clock("milliseconds")), flush=True)
                    else:
                        print(as_text(step.detection), flush=True)
        except KeyboardInterrupt:
            pass
        finally:
            watch.close()
            if meter:
                meter.clear()
    _report(watch.summary(), source, stats=stats, as_lines=as_lines)
    heard_s = (spotter.n_samples - source.lost_samples) / c.sample_rate
    print(f"kws-edge: heard {heard_s:.1f} s, {counted(found, 'detection')}{_missing(source)}", file=sys.stderr)


def _report(figures: dict[str, Any], source: Source, *, stats: bool, as_lines: bool) -> None:
    """Print what listening cost."""
    if stats and as_lines:
        lost = {}
        if isinstance(source, LiveSource):
            lost = {"dropped_samples": source.dropped_samples, "overruns": source.overruns}
        print(json.dumps({"stats": {**figures, **lost}}), flush=True)
    elif stats and figures["stages"]:
        print(stage_table(figures["stages"]), file=sys.stderr)
    if figures["stages"]:
        print(f"kws-edge: {live_text(figures)}", file=sys.stderr)


def _missing(source: Source) -> str:
    """Words about the losses of a source, to end a sentence."""
    live = source if isinstance(source, LiveSource) else None
    text = f", {losses(live)}" if live else ""
    if source.lost_samples:
        text += f"; {source.lost_samples / source.sample_rate:.1f} s lost in all"
    return text + (f", {counted(live.outages, 'outage')}" if live and live.outages else "")


def losses(source: LiveSource) -> str:
    """The losses of a live source in words."""
    return f"{counted(source.dropped_samples, 'sample')} dropped, {counted(source.overruns, 'overrun')}"


def stage_table(stages: dict[str, dict[str, float]]) -> str:
    """Latency of each stage in milliseconds, a line for each."""
    keys = ("p50_s", "p95_s", "p99_s", "max_s")
    lines = [f"{'ms':<16}" + "".join(f"{key[:-2]:>9}" for key in keys)]
    for name, values in stages.items():
        lines.append(f"{name.replace('_', ' '):<16}" + "".join(f"{1000 * values[key]:9.3f}" for key in keys))
    return "\n".join(lines)


def live_text(figures: dict[str, Any]) -> str:
    """The counts of a :class:`Stopwatch` in one line."""
    latency = figures["stages"]["end_to_end"]
    text = f"{counted(figures['inferences'], 'inference')}, " + ", ".join(
        f"{key[:-2]} {1000 * latency[key]:.2f} ms" for key in ("p50_s", "p95_s", "max_s")
    )
    text += f"; {figures['deadline_misses']} later than {1000 * figures['deadline_s']:g} ms"
    text += f"; {100 * figures['cpu_share']:.1f} % of a core"
    return text + (f", at most {figures['peak_bytes'] / 1e6:.1f} MB" if figures["peak_bytes"] else "")


def _what(spotter: Spotter) -> str:
    wake, armed_s = spotter.detector_config.wake_word, spotter.detector_config.armed_s
    commands = ", ".join(word for word in spotter.keywords if word != wake)
    return f"{wake}, and {armed_s:g} s after it for {commands}" if wake else commands


def limited(blocks: Iterable[NDArray[np.int16]], seconds: float | None, rate: int) -> Iterator[NDArray[np.int16]]:
    """Yield the blocks of the first `seconds`, or all blocks if `seconds` is None."""
    left = None if seconds is None else round(seconds * rate)
    for block in blocks:
        if left is not None:
            block = block[:left]
            left -= len(block)
        yield block
        if left == 0:
            return
