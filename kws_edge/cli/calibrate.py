"""``kws-edge calibrate``: find thresholds for a place from some minutes of its sound without commands."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import shlex
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kws_edge.audio.file import AudioFile
from kws_edge.audio.level import level_db
from kws_edge.audio.source import LiveSource, Source
from kws_edge.cli import options
from kws_edge.cli.guard import interrupted_by
from kws_edge.cli.listen import add_source, check_device, limited, losses, open_source
from kws_edge.cli.parser import output_path
from kws_edge.cli.say import say
from kws_edge.cli.taught import add_taught, taught_words
from kws_edge.detection.calibration import (
    CONFIDENCE,
    LEAST_MINUTES,
    MARGIN,
    TOO_SHORT,
    Accepts,
    Choice,
    Evidence,
    check_plausible,
    choose,
    poisson_interval,
    poisson_upper,
    wilson,
)
from kws_edge.detection.room_profile import RoomProfile, check_savable, is_there, profile_path, set_aside
from kws_edge.diagnostics.latency import wall_clock
from kws_edge.errors import AudioError, ConfigError, UsageError
from kws_edge.model.model import Model
from kws_edge.ranges import number
from kws_edge.spotter import Spotter
from kws_edge.text import counted, printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kws_edge.cli.parser import Commands

_LIVE_MINUTES = 5.0
_MOST_MINUTES = 24 * 60.0


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "calibrate",
        help="choose thresholds for the place where the device stands",
        description="Listen to the room, or to recordings of it, while life goes on but nobody gives a command. Then "
        "count the false accepts of each threshold. The lowest thresholds that keep to the budget go to a room "
        "profile, which listen and detect use from then on. A threshold goes below the model file's, by up to "
        f"{MARGIN:g}, only if the recording is long enough to show that the budget is kept. If you press Ctrl-C after "
        f"{LEAST_MINUTES:g} minutes or later, the audio heard until then counts.",
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="recordings, or - for standard input; default: listen")
    add_source(parser)
    parser.add_argument(
        "--minutes",
        type=number(0.001, _MOST_MINUTES),
        metavar="M",
        help=f"minutes to hear; default: {_LIVE_MINUTES:g} live, or all of the recordings",
    )
    parser.add_argument(
        "--budget",
        type=options.BUDGET,
        default=1.0,
        metavar="N",
        help="allowed false accepts per hour, of all keywords together",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=output_path,
        metavar="FILE",
        help="room profile to write, or to set aside; default: the one that listen and detect look for",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help=f"calibrate even from less than {LEAST_MINUTES:g} min, or from audio that seems full of commands",
    )
    parser.add_argument(
        "--reset", action="store_true", help="set the room profile aside: the model file's thresholds count again"
    )
    add_taught(parser)
    options.add_model(parser)
    options.add_detector(parser, threshold=False)
    parser.add_argument("--json", action="store_true", help="the result as one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    live, minutes = _checked(args)
    model = options.load_model(args)
    output = args.output or Path(profile_path(model))
    if not output.is_absolute() and not args.output:
        raise ConfigError(
            "there is no home folder for the room profile; set HOME, or name a file: --output, then --room"
        )
    if args.reset:
        return _reset(args, output)
    if not args.output and is_there(str(output)) and not output.is_file():
        raise ConfigError(f"{output}: is no regular file; set it aside with --reset, or name another --output")
    # Before the minutes of listening.
    check_savable(output, option="--output" if args.output else "", apart=options.inputs(args))
    if words := taught_words(args, model):
        check_savable(words.path)
    spotter = Spotter(model, detector_config=options.detector_config(args, model), taught=words)
    evidence = _gather(args, spotter, minutes, live=live)
    misses = _misses(model)
    try:
        choice = choose(evidence, args.budget)
    except ConfigError:
        if not args.json:
            _print_table(evidence, misses)  # the table shows why
        raise
    profile = RoomProfile.of(
        model,
        date=wall_clock(),
        hours=round(evidence.hours, 6),
        false_accepts=sum(choice.counts.values()),
        budget=args.budget,
        detector_config=dataclasses.replace(spotter.detector_config, thresholds=evidence.own(choice.thresholds)),
    )
    try:  # the result is shown, then saved: if one of them fails, the other keeps the result
        if args.json:
            print(json.dumps(_as_dict(evidence, choice, misses, args.budget, output)))
        else:
            _print_table(evidence, misses)
            _print_choice(evidence, choice, misses, model.metadata.miss_words, args.budget)
        sys.stdout.flush()
    finally:
        former = profile.save(output)
        if words:
            words.set_thresholds({word: choice.thresholds[word] for word in words})
    if not args.json:
        own = str(output) == profile_path(model)
        use = "listen and detect use it" if own else f"use it with --room {shlex.quote(str(output))}"
        print(f"wrote {output}: {use}")
        if former:
            print(f"what was there before is {former}")
        if words:
            print(f"wrote the thresholds of {', '.join(words)} to {words.path}")
    return 0


def _checked(args: argparse.Namespace) -> tuple[bool, float]:
    """Return whether to hear live audio, and for how many minutes.

    Raises
    ------
    UsageError
        If the options contradict one another.
    """
    live = args.files in ([], ["-"])
    if not live and "-" in args.files:
        raise UsageError("calibrate takes recordings or - for standard input, not both")
    if args.files:
        check_device(args, "standard input" if live else "a recording")
    minutes = args.minutes or (_LIVE_MINUTES if live else _MOST_MINUTES)
    if minutes < LEAST_MINUTES and not args.force and not args.reset:
        raise UsageError(f"--minutes {minutes:g}: {TOO_SHORT}, or give --force")
    return live, minutes


def _gather(args: argparse.Namespace, spotter: Spotter, minutes: float, *, live: bool) -> Accepts:
    """Hear the sources; return the evidence if it is long enough and plausible."""
    c = spotter.model.frontend_config
    evidence: Accepts = Evidence(
        spotter.model.labels,
        spotter.detector_config,
        step_s=spotter.answer_s,
        clip_s=c.clip_samples / c.sample_rate,
        independent=spotter.model.step is not None,
    )
    if spotter.taught:
        from kws_edge.teach.evidence import Together

        refractory_s = spotter.detector_config.refractory_ms / 1000
        evidence = Together(evidence, spotter.taught.names, step_s=spotter.step_s, refractory_s=refractory_s)
    try:
        _hear(args, spotter, evidence, minutes, live=live)
    except (KeyboardInterrupt, AudioError) as stop:
        # You can read files again, but minutes of listening are lost.
        if not live or 60 * evidence.hours < LEAST_MINUTES:
            raise
        why = "stopped" if isinstance(stop, KeyboardInterrupt) else str(stop)
        with contextlib.suppress(OSError):  # the terminal may have gone
            print(f"kws-edge: {why}; what was heard in {60 * evidence.hours:.1f} min counts", file=sys.stderr)
    if not evidence.hours:
        raise AudioError("nothing was heard: too short for a single inference")
    evidence.close()
    if not args.force:
        try:
            check_plausible(evidence, args.budget)
        except ConfigError as error:
            raise ConfigError(f"{error}, or give --force") from None
    return evidence


def _reset(args: argparse.Namespace, path: Path) -> int:
    if args.files:
        raise UsageError("--reset hears nothing; leave the recordings out")
    if args.output and is_there(str(path)) and not stat.S_ISREG(path.lstat().st_mode):
        raise ConfigError(f"--output {path}: is no regular file; --reset renames what it is given")
    if not is_there(str(path)):
        text = f"{path}: there is none; the model file's thresholds count"
    else:
        text = f"{path} is now {set_aside(path)}; the model file's thresholds count again"
    print(json.dumps({"reset": str(path)}) if args.json else text)
    return 0


def _hear(args: argparse.Namespace, spotter: Spotter, evidence: Accepts, minutes: float, *, live: bool) -> None:
    """Add the posteriors of `minutes` of the sources to `evidence`.

    Raises
    ------
    KeyboardInterrupt
        At Ctrl-C, a supervisor's SIGTERM, or the end of the terminal.
    AudioError
        If a source fails.
    """
    interrupted_by("SIGTERM", "SIGHUP")
    rate = spotter.model.frontend_config.sample_rate
    progress = _Progress(spotter, minutes if live else None)
    left_s = 60 * minutes
    for name in args.files or [None]:
        source: Source
        source = open_source(args, rate, piped=bool(args.files)) if live else AudioFile(name, sample_rate=rate)
        spotter.reset()
        with source, progress:
            for block in progress.shown(source, limited(spotter.follow(source), left_s, rate), live):
                for step in spotter.process_steps(block):
                    evidence.add(
                        np.append(step.posteriors, spotter.taught.shares) if spotter.taught else step.posteriors
                    )
                    progress.found += step.detection is not None
        left_s -= (spotter.n_samples - source.lost_samples) / rate
        if left_s <= 0:
            break


class _Progress:
    """A status line on the terminal during listening: time left, level, and detections so far."""

    def __init__(self, spotter: Spotter, minutes: float | None) -> None:
        self._spotter, self._minutes = spotter, minutes
        self._tty = sys.stderr.isatty()
        self.found = 0

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._tty:
            with contextlib.suppress(OSError):
                sys.stderr.write("\r\x1b[K")

    def shown(self, source: Source, blocks: Iterator[NDArray[np.int16]], live: bool) -> Iterator[NDArray[np.int16]]:
        """Pass on the blocks of a source, and update the status line."""
        for i, block in enumerate(blocks):
            if i == 0 and live:
                say(
                    f"listening to {source.name} for {self._minutes:g} min; carry on as usual, but speak "
                    f"none of {', '.join(self._spotter.keywords)}; Ctrl-C ends early"
                )
            yield block
            if self._tty:
                heard = (self._spotter.n_samples - source.lost_samples) / source.sample_rate
                if self._minutes is None:
                    text = f"{printable(source.name)}: {heard / 60:.1f} min"
                else:
                    left = max(0, math.ceil(60 * self._minutes - heard))
                    text = f"{left // 60}:{left % 60:02} left"
                text += f"  {level_db(block):4.0f} dBFS  {counted(self.found, 'false accept')}"
                text += " at the model file's thresholds"
                sys.stderr.write("\r\x1b[K" + text[: shutil.get_terminal_size().columns - 1])
                sys.stderr.flush()
        if isinstance(source, LiveSource) and source.dropped_samples:
            print(f"kws-edge: {losses(source)}", file=sys.stderr)


def _misses(model: Model) -> NDArray[np.float64] | None:
    """The model file's miss curve: rows of threshold, ascending, and share of commands missed. None if it has none."""
    curve = model.metadata.miss_curve
    return None if curve is None else np.array(curve)


def _missed(misses: NDArray[np.float64] | None, *thresholds: float) -> float | None:
    """Share of commands missed with these thresholds of the keywords; None if it is unknown."""
    if misses is None or not misses[0, 0] <= min(thresholds) <= max(thresholds) <= misses[-1, 0]:
        return None
    return float(np.interp(thresholds, misses[:, 0], misses[:, 1]).mean())


def _rate(n: int, hours: float) -> dict[str, Any]:
    low, high = poisson_interval(n)
    return {"false_accepts": n, "per_hour": n / hours, "interval": [low / hours, high / hours]}


def _print_table(evidence: Accepts, misses: NDArray[np.float64] | None) -> None:
    print(
        f"{'threshold':>9} {'false accepts':>14} {'per hour':>9} {f'{100 * CONFIDENCE:g} % interval':>16} {'misses':>8}"
    )
    twentieths = [t for t in evidence.grid if abs(t * 20 - round(t * 20)) < 1e-6]
    rows = [(f"{threshold:.2f}", evidence.common(threshold)) for threshold in twentieths]
    for name, thresholds in [*rows, ("as it is", evidence.defaults)]:
        rate = _rate(sum(evidence.false_accepts(thresholds).values()), evidence.hours)
        low, high = rate["interval"]
        missed = _missed(misses, *evidence.own(thresholds).values())
        print(
            f"{name:>9} {rate['false_accepts']:14} {rate['per_hour']:9.1f} {f'{low:.1f} to {high:.1f}':>16} "
            f"{'unknown' if missed is None else f'{100 * missed:.1f} %':>8}"
        )
    print("as it is: each keyword at the model file's threshold")
    if misses is None:
        print("misses are unknown: the model file has no miss curve")


def _print_choice(
    evidence: Accepts, choice: Choice, misses: NDArray[np.float64] | None, said: int | None, budget: float
) -> None:
    print(f"\nchosen for a budget of {budget:g} per hour, at first {choice.common:.2f} for all:")
    width = max(map(len, ("keyword", *choice.thresholds)))
    print(f"{'keyword':<{width}} {'model file':>11} {'chosen':>7} {'false accepts':>14}")
    for word, threshold in choice.thresholds.items():
        print(f"{word:<{width}} {evidence.defaults[word]:11.2f} {threshold:7.2f} {choice.counts[word]:14}")
    share = _missed(misses, *evidence.own(choice.thresholds).values())
    if share is not None:
        interval = ""
        if said:
            low, high = wilson(share * said, said)
            interval = f" ({100 * low:.1f} to {100 * high:.1f}, from {counted(said, 'word')})"
        print(f"expected misses {100 * share:.1f} %{interval} of the commands, by the model file's miss curve")
    n, hours = sum(choice.counts.values()), evidence.hours
    upper = poisson_upper(n) / hours
    print(
        f"{counted(n, 'false accept')} in {hours:.2f} h, so at most {upper:.2g} per hour "
        f"({100 * CONFIDENCE:g} % confidence)"
    )
    given = (
        f"--threshold {shlex.quote(f'{word}={value:g}')}" for word, value in evidence.own(choice.thresholds).items()
    )
    print(f"the same without a room profile: {' '.join(given)}")
    print("the thresholds were chosen on this very recording, which flatters them somewhat")
    if not choice.supported:
        print(
            f"that is too short to show that {budget:g} per hour is kept: it takes {poisson_upper(0) / budget:.2g} h "
            "without a false accept (--minutes), or more with some"
        )


def _as_dict(
    evidence: Accepts, choice: Choice, misses: NDArray[np.float64] | None, budget: float, output: Path
) -> dict[str, Any]:
    n = sum(choice.counts.values())
    table = []
    for threshold in evidence.grid:
        counts = evidence.false_accepts(evidence.common(threshold))
        rate = _rate(sum(counts.values()), evidence.hours)
        table.append({"threshold": threshold, **rate, "misses": _missed(misses, threshold), "keywords": counts})
    return {
        "room": str(output),
        "hours": evidence.hours,
        "budget": budget,
        "common": choice.common,
        "defaults": evidence.defaults,
        "thresholds": choice.thresholds,
        **_rate(n, evidence.hours),
        "upper": poisson_upper(n) / evidence.hours,
        "supported": choice.supported,
        "table": table,
    }
