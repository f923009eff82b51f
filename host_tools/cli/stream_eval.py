"""``kws-host stream-eval``: misses and false accepts on long streams."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path

from host_tools.cli import options
from host_tools.config import DB
from host_tools.errors import DatasetError
from host_tools.evaluation.standard.conditions import CONDITIONS, SNR_DB
from kws_edge.cli.options import add_detector, add_foreign, add_kernels, detector_config
from kws_edge.cli.parser import output_path
from kws_edge.errors import UsageError
from kws_edge.ranges import whole


def add(commands) -> None:
    parser = commands.add_parser(
        "stream-eval",
        help="misses and false accepts of a model file on long streams",
        description="Run a model file over recordings as live listening would, and count false rejects, false accepts"
        " per hour, confusions, duplicates and the delay. The labels of X.flac are in X.csv (start_s,end_s,label) or"
        " X.txt (Audacity) beside it. Without labels, every detection is a false accept. With --standard, DIR"
        " is a folder of data, and the streams are those of the standard conditions.",
    )
    parser.add_argument("model", metavar="MODEL", help="shipped model or .tflite file")
    add_foreign(parser)
    options.add_streams(parser)
    _add_standard(parser)
    add_detector(parser)
    add_kernels(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "-o",
        "--output",
        type=output_path,
        metavar="DIR",
        help="write report.json, det.png, timeline.png, false_accepts/*.wav; with --standard report.json, table.md,"
        " det.png and the streams",
    )
    options.add_errors(
        parser, "cut out missed words, confusions and false accepts with 1 s around each, with a table of posteriors"
    )
    parser.set_defaults(work=work)


def _add_standard(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("standard conditions")
    group.add_argument(
        "--standard",
        action="store_true",
        help="measure under the standard conditions, on recordings of the folder DIR: of its speech_commands,"
        " independent, and negatives/speech, noise and music; of negatives and backgrounds the reporting half",
    )
    group.add_argument(
        "--conditions",
        nargs="+",
        choices=CONDITIONS,
        default=[],
        metavar="NAME",
        help=f"of {', '.join(CONDITIONS)}; default: all whose recordings are there",
    )
    group.add_argument("--music", type=Path, metavar="DIR", help="music, such as kws-host collect --from music fetches")
    group.add_argument(
        "--words", type=whole(1, 1_000_000), default=1000, metavar="N", help="words under each condition; default 1000"
    )
    group.add_argument(
        "--snr-db", type=DB, default=SNR_DB, metavar="DB", help=f"words over their background; default {SNR_DB:g}"
    )


def work(args: argparse.Namespace) -> None:
    """Measure on the given streams, or under the standard conditions."""
    if args.standard:
        _standard(args)
    elif args.conditions or args.music:
        raise UsageError(f"--{'conditions' if args.conditions else 'music'} goes with --standard")
    else:
        _given(args)


def _make_folder(folder: Path) -> None:
    """Make the folder of ``-o``, so that one that cannot be made is refused before the work."""
    from kws_edge.files import check_writable

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"{folder}: no folder can be made there ({error.strerror})") from None
    check_writable(folder / "report.json")


def _standard(args: argparse.Namespace) -> None:
    """Measure under the standard conditions."""
    from host_tools.evaluation.standard.conditions import Folders
    from host_tools.evaluation.standard.measure import measure
    from host_tools.evaluation.standard.report import table, write
    from host_tools.evaluation.standard.streams import standard_streams
    from kws_edge.model.model import Model

    unused = {
        "more than one folder": args.streams[1:],
        "--truth": args.truth,
        "--also-said": args.also_said,
        "--errors": args.errors,
    }
    unused |= {"--gains": args.gains != [0.0], "--rooms": args.rooms, "--no-gated": not args.gated}
    unused["--half"] = args.half != "all"
    if clash := next((name for name, value in unused.items() if value), None):
        raise UsageError(f"{clash} does not go with --standard, which takes one folder and hears all of it its own way")
    config = detector_config(args, Model(args.model, **options.foreign(args)))
    if args.output:
        _make_folder(args.output)
    kept = tempfile.TemporaryDirectory() if args.output is None else contextlib.nullcontext(args.output / "streams")
    with kept as work:
        streams = standard_streams(
            Folders(args.streams[0], args.music),
            work,
            conditions=args.conditions,
            clips=args.words,
            snr_db=args.snr_db,
        )
        values = measure(
            args.model, streams, config=config, kernels=args.kernels, **options.foreign(args), workers=args.workers
        )
    results = {values["model"]: values}
    for name, reason in values["not_measured"].items():
        print(f"kws-host: {name} not measured: {reason}", file=sys.stderr)
    print(json.dumps(values) if args.json else table(results), end="\n" if args.json else "")
    if args.output:
        write(results, args.output)
        if not args.json:
            print(f"wrote {args.output}/report.json, table.md and det.png")


def _given(args: argparse.Namespace) -> None:
    """Measure on the recordings that are given."""
    from host_tools.evaluation.mistakes import check_unused
    from host_tools.evaluation.stream_reports import evaluate_streams
    from kws_edge.model.model import Model

    if args.errors:
        check_unused(args.errors)
        if args.output and args.errors.resolve() in (args.output.resolve(), *args.output.resolve().parents):
            raise UsageError(f"--errors {args.errors}: holds the folder of -o; name another one")
    if args.output:
        _make_folder(args.output)
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
