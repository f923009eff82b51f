"""``kws-edge demo``: play a bundled stream through the live path, and compare what was said with what was heard."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kws_edge.audio.playback import Playback
from kws_edge.cli import options
from kws_edge.cli.listen import listen
from kws_edge.cli.plot import Recorder, add_plot, check_plot, write_plot
from kws_edge.detection.detector import Detection
from kws_edge.spotter import Spotter, Step
from kws_edge.text import counted

if TYPE_CHECKING:
    from kws_edge.cli.parser import Commands

STREAM = Path(__file__).parents[1] / "demo" / "stream.flac"
_LATE_S = 1.0


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "demo",
        help="play a bundled stream and show what is heard",
        description="Play a bundled stream of synthetic speech over noise through the path that a microphone's audio "
        "takes, and compare what was said with what was heard. The exit status is 0 if all is right, and 1 otherwise.",
    )
    options.add_model(parser)
    options.add_detector(parser)
    parser.add_argument("--fast", action="store_true", help="do not wait for real time")
    add_plot(parser, "draw waveform, log-mel, posteriors and detections")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end instead of the table")
    parser.set_defaults(run=run)


Said = tuple[float, float, str]
"""Start and end of an utterance, in seconds, and its word."""
Row = tuple[Said | None, Detection | None]
"""An utterance and the detection in it. None stands for a missing one of the two."""


def match(spoken: Sequence[Said], heard: Sequence[Detection]) -> list[Row]:
    """Pair utterances with the detections that overlap them, in order of time. A detection may come a little late."""
    left = list(heard)
    rows: list[Row] = []
    for utterance in spoken:
        start, end, _ = utterance
        found = [d for d in left if d.start_s < end and d.end_s > start and d.end_s < end + _LATE_S]
        for detection in found[:1]:
            left.remove(detection)
        rows.append((utterance, found[0] if found else None))
    rows += [(None, detection) for detection in left]
    return sorted(rows, key=_start_of)


def _start_of(row: Row) -> float:
    said, found = row
    return said[0] if said else found.start_s if found else 0.0


class _Hearing:
    """Collects the detections, and the times at which a command counts."""

    def __init__(self, spotter: Spotter, recorder: Recorder | None) -> None:
        self._spotter, self._recorder = spotter, recorder
        self.detections: list[Detection] = []
        self._armed: list[tuple[float, float]] = []  # each from the wake word's detection to the window's end

    def step(self, step: Step) -> None:
        if self._recorder:
            self._recorder.step(step)
        if not step.detection:
            return
        self.detections.append(step.detection)
        if self._armed and self._armed[-1][1] > step.time_s:
            self._armed[-1] = self._armed[-1][0], step.time_s
        if step.detection.wake:
            self._armed.append((step.time_s, step.time_s + self._spotter.detector_config.armed_s))

    def is_command(self, said: Said) -> bool:
        """Whether an utterance should be detected: it is a keyword, said at a time at which this keyword counts."""
        start, end, word = said
        wake = self._spotter.detector_config.wake_word
        in_time = wake in (None, word) or any(end > opened and start < closed for opened, closed in self._armed)
        return word in self._spotter.detector.keywords and in_time


def run(args: argparse.Namespace) -> int:
    drawn = check_plot(args)
    model = options.load_model(args)
    spotter = Spotter(model, detector_config=options.detector_config(args, model))
    rate = model.frontend_config.sample_rate
    with open(STREAM.with_suffix(".csv"), newline="") as file:
        spoken = [(float(row["start_s"]), float(row["end_s"]), row["said"]) for row in csv.DictReader(file)]
    recorder = Recorder(STREAM.name, rate) if drawn else None
    hearing = _Hearing(spotter, recorder)
    source = Playback(STREAM, sample_rate=rate, real_time=not args.fast)
    tap = recorder.tap if recorder else None
    listen(spotter, source, as_lines=args.json, name=STREAM.name, on_step=hearing.step, tap=tap)

    played_s = (spotter.n_samples - source.lost_samples) / rate
    stopped = played_s < spoken[-1][1] + _LATE_S
    rows = match(spoken, hearing.detections)
    if stopped:  # utterances after the stop were not missed
        rows = [(said, found) for said, found in rows if found or (said and said[1] + _LATE_S < played_s)]
        spoken = [said for said, _ in rows if said]
    counts = _counts(rows, hearing)
    if args.json:
        print(json.dumps({**counts, "dropped": source.dropped_samples, "stopped": stopped}))
    else:
        _print(rows, counts, hearing, f"; stopped after {played_s:.1f} s" if stopped else "")
    if recorder and recorder.steps:
        write_plot(args.plot, recorder, spotter, hearing.detections, title="demo", spoken=spoken)
        print(f"kws-edge: wrote {args.plot}", file=sys.stderr)
    if stopped:
        return 130
    right = (counts["heard"], counts["ignored"], counts["false"]) == (counts["commands"], counts["other_words"], 0)
    return 0 if right else 1


def _counts(rows: Sequence[Row], hearing: _Hearing) -> dict[str, int]:
    spoken = [said for said, _ in rows if said]
    commands = sum(map(hearing.is_command, spoken))
    return {
        "commands": commands,
        "heard": sum(bool(said and found and found.keyword == said[2]) for said, found in rows),
        "other_words": len(spoken) - commands,
        "ignored": sum(bool(said and not found and not hearing.is_command(said)) for said, found in rows),
        "false": sum(bool(found and (not said or found.keyword != said[2])) for said, found in rows),
    }


def _print(rows: Sequence[Row], counts: dict[str, int], hearing: _Hearing, note: str) -> None:
    print(f"\n{'time':>8}  {'said':<16} {'heard':<10} score")
    for row in rows:
        said, found = row
        word = said[2] if said else "-"
        ok = found.keyword == word if found else bool(said and not hearing.is_command(said))
        name, score = (found.keyword, f"{found.score:.2f}") if found else ("-", "    ")
        print(f"{_start_of(row):7.2f}s  {word:<16} {name:<10} {score}  {'' if ok else '<-- wrong'}".rstrip())
    print(
        f"\n{counts['heard']} of {counted(counts['commands'], 'command')} heard, {counts['ignored']} of "
        f"{counted(counts['other_words'], 'other utterance')} ignored, "
        f"{counted(counts['false'], 'false detection')}{note}"
    )
