"""``kws-host stream-eval``: misses and false accepts on long streams."""

from __future__ import annotations

import argparse
import json

from host_tools.cli import options
from host_tools.errors import DatasetError
from kws_edge.cli.options import add_detector, add_foreign, add_kernels, detector_config
from kws_edge.cli.parser import output_path
from kws_edge.errors import UsageError


def add(commands) -> None:
    parser = commands.add_parser(
        "stream-eval",
        help="misses and false accepts of a model file on long streams",
        description="Run a model file over recordings as live listening would, and count false rejects, false accepts"
        " per hour, confusions, duplicates and the delay. The labels of X.flac are in X.csv (start_s,end_s,label) or"
        " X.txt (Audacity) beside it. Without labels, every detection is a false accept.",
    )
    parser.add_argument("model", metavar="MODEL", help="shipped model or .tflite file")
    add_foreign(parser)
    options.add_streams(parser)
    add_detector(parser)
    add_kernels(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "-o",
        "--output",
        type=output_path,
        metavar="DIR",
        help="write report.json, det.png, timeline.png, false_accepts/*.wav",
    )
    options.add_errors(
        parser, "cut out missed words, confusions and false accepts with 1 s around each, with a table of posteriors"
    )
    parser.set_defaults(work=work)


def work(args: argparse.Namespace) -> None:
    from host_tools.evaluation.mistakes import check_unused
    from host_tools.evaluation.stream_reports import evaluate_streams
    from kws_edge.files import check_writable
    from kws_edge.model.model import Model

    if args.errors:
        check_unused(args.errors)
        if args.output and args.errors.resolve() in (args.output.resolve(), *args.output.resolve().parents):
            raise UsageError(f"--errors {args.errors}: holds the folder of -o; name another one")
    if args.output:  # a folder that cannot be made is refused before the work
        try:
            args.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatasetError(f"{args.output}: no folder can be made there ({error.strerror})") from None
        check_writable(args.output / "report.json")
    streams, foreign = options.streams(args), options.foreign(args)
    report = evaluate_streams(
        args.model,
        streams,
        config=detector_config(args, Model(args.model, **foreign)),
        conditions=options.conditions(args, streams),
        kernels=args.kernels,
        **foreign,
        workers=args.workers,
    )
    if not args.json:
        print(report.table())
    if args.output:
        report.write(args.output)
        if not args.json:
            print(f"wrote {args.output}/report.json, det.png, timeline.png and false_accepts/")
    if args.errors:
        wrote = report.write_errors(args.errors, most=args.most_errors)
        if not args.json:
            print(wrote)
    if args.json:
        print(json.dumps(report.to_dict()))
