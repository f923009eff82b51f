"""``kws-edge detect``: find keywords in recordings."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from kws_edge.audio.file import AudioFile
from kws_edge.cli import options
from kws_edge.cli.me import add_only_me
from kws_edge.cli.plot import MAX_S, Recorder, add_plot, check_plot, write_plot
from kws_edge.cli.taught import add_taught
from kws_edge.detection.records import as_json, as_text
from kws_edge.errors import KwsError, UsageError
from kws_edge.text import printable

if TYPE_CHECKING:
    from kws_edge.cli.parser import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "detect",
        help="find keywords in recordings",
        description="Find keywords in recordings of any length, format and sample rate, exactly as live listening "
        "would. Some formats, such as m4a and webm, need ffmpeg.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="audio file")
    options.add_model(parser)
    options.add_detector(parser)
    options.add_room(parser)
    add_taught(parser)
    add_only_me(parser)
    parser.add_argument(
        "--json", action="store_true", help="one JSON object per detection and line; times are those of the recording"
    )
    add_plot(parser, f"draw waveform, log-mel, posteriors and detections of one FILE of at most {MAX_S} s")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.plot is not None and len(args.files) > 1:
        raise UsageError("--plot draws one recording; give one FILE")
    drawn = check_plot(args)
    model = options.load_model(args)
    spotter = options.load_spotter(args, model)
    status = 0
    for name in args.files:
        recorder = Recorder(name, model.frontend_config.sample_rate) if drawn else None
        try:
            detections = []
            if len(args.files) > 1 and not args.json:
                print(f"{printable(name)}:")
            with AudioFile(name, sample_rate=model.frontend_config.sample_rate) as audio:
                if recorder:
                    recorder.check(audio.seconds)
                for step in spotter.steps(recorder.tap(audio) if recorder else audio):
                    if recorder:
                        recorder.step(step)
                    if step.detection:
                        detections.append(step.detection)
                        print(as_json(name, step.detection) if args.json else as_text(step.detection), flush=True)
            if not detections and not args.json:
                print("  no keyword")
            if audio.remark:
                print(f"kws-edge: {printable(name)}: {audio.remark}", file=sys.stderr)
        except KwsError as error:
            print(f"kws-edge: {error}", file=sys.stderr)
            status = 1
            continue
        if recorder:
            write_plot(args.plot, recorder, spotter, detections, title=name)
            print(f"kws-edge: wrote {args.plot}", file=sys.stderr)
    return status
