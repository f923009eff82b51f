"""``kws-edge demo``: a bundled stream through the live path, what was said beside what was heard."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from kws_edge.audio.playback import Playback
from kws_edge.cli import options
from kws_edge.cli.listen import listen
from kws_edge.cli.plot import Recorder, add_plot, check_plot, write_plot
from kws_edge.detection.detector import Detection
from kws_edge.spotter import Spotter
from kws_edge.text import counted

STREAM = Path(__file__).parents[1] / "demo" / "stream.flac"
_LATE_S = 1.0


def add(commands) -> None:
    parser = commands.add_parser(
        "demo",
        help="play a bundled stream and show what is heard",
        description="Play a bundled stream of synthetic speech over noise through the path that a microphone's audio "
        "takes, and compare what was said with what was heard. The exit status is 0 if all is right, or else 1.",
    )
    options.add_model(parser)
    options.add_detector(parser)
    parser.add_argument("--fast", action="store_true", help="do not wait for real time")
    add_plot(parser, "draw waveform, log-mel, posteriors and detections")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end in place of the table")
    parser.set_defaults(run=run)


def match(
    spoken: Sequence[tuple[float, float, str]], heard: Sequence[Detection]
) -> list[tuple[tuple[float, float, str] | None, Detection | None]]:
    """Pair utterances with the detections that overlap them (a little late is allowed), in order of time."""
    left = list(heard)
    rows: list = []
    for utterance in spoken:
        start, end, _ = utterance
        found = [d for d in left if d.start_s < end and d.end_s > start and d.end_s < end + _LATE_S]
        for detection in found[:1]:
            left.remove(detection)
        rows.append((utterance, found[0] if found else None))
    rows += [(None, detection) for detection in left]
    return sorted(rows, key=lambda row: row[0][0] if row[0] else row[1].start_s)


def run(args: argparse.Namespace) -> int:
    drawn = check_plot(args)
    model = options.load_model(args)
    spotter = Spotter(model, detector_config=options.detector_config(args, model))
    with open(STREAM.with_suffix(".csv"), newline="") as file:
        spoken = [(float(row["start_s"]), float(row["end_s"]), row["said"]) for row in csv.DictReader(file)]
    recorder = Recorder(STREAM.name, model.frontend_config.sample_rate) if drawn else None
    heard: list[Detection] = []
    wake = spotter.detector_config.wake_word
    armed: list[tuple[float, float]] = []  # from a wake word's detection to the end of its window

    def on_step(step) -> None:
        if recorder:
            recorder.step(step)
        if step.detection:
            heard.append(step.detection)
            if armed and armed[-1][1] > step.time_s:
                armed[-1] = armed[-1][0], step.time_s
            if step.detection.wake:
                armed.append((step.time_s, step.time_s + spotter.detector_config.armed_s))

    def is_command(start: float, end: float, word: str) -> bool:
        in_time = wake in (None, word) or any(end > opened and start < closed for opened, closed in armed)
        return word in spotter.detector.keywords and in_time

    source = Playback(STREAM, sample_rate=model.frontend_config.sample_rate, real_time=not args.fast)
    listen(spotter, source, as_lines=args.json, name=STREAM.name, on_step=on_step, tap=recorder and recorder.tap)

    played_s = (spotter.n_samples - source.lost_samples) / model.frontend_config.sample_rate
    stopped = played_s < spoken[-1][1] + _LATE_S
    rows = match(spoken, heard)
    if stopped:  # what could not be heard yet was not missed
        rows = [(said, found) for said, found in rows if found or said[1] + _LATE_S < played_s]
        spoken = [said for said, _ in rows if said]
    right = sum(said is not None and found is not None and found.keyword == said[2] for said, found in rows)
    silent = sum(said is not None and not is_command(*said) and found is None for said, found in rows)
    commands = sum(is_command(*said) for said in spoken)
    false = sum(found is not None and (said is None or found.keyword != said[2]) for said, found in rows)
    if args.json:
        summary = {
            "commands": commands,
            "heard": right,
            "other_words": len(spoken) - commands,
            "ignored": silent,
            "false": false,
            "dropped": source.dropped_samples,
            "stopped": stopped,
        }
        print(json.dumps(summary))
    else:
        print(f"\n{'time':>8}  {'said':<16} {'heard':<10} score")
        for said, found in rows:
            word = said[2] if said else "-"
            ok = found.keyword == word if found else not is_command(*said)
            time = said[0] if said else found.start_s
            name, score = (found.keyword, f"{found.score:.2f}") if found else ("-", "    ")
            print(f"{time:7.2f}s  {word:<16} {name:<10} {score}  {'' if ok else '<-- wrong'}".rstrip())
        print(
            f"\n{right} of {counted(commands, 'command')} heard, {silent} of "
            f"{counted(len(spoken) - commands, 'other utterance')} ignored, {counted(false, 'false detection')}"
            + (f"; stopped after {played_s:.1f} s" if stopped else "")
        )
    if recorder and recorder.steps:
        write_plot(args.plot, recorder, spotter, heard, title="demo", spoken=spoken)
        print(f"kws-edge: wrote {args.plot}", file=sys.stderr)
    if stopped:
        return 130
    return 0 if right == commands and silent == len(spoken) - commands and not false else 1
