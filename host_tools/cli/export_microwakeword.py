"""``kws-host export-microwakeword``: one word of a run for ESPHome's ``micro_wake_word``."""

from __future__ import annotations

import argparse
from pathlib import Path

from host_tools.cli import options
from host_tools.config import SEED
from kws_edge.cli.options import BUDGET, add_setting
from kws_edge.cli.parser import output_path
from kws_edge.config import DetectorConfig
from kws_edge.errors import UsageError
from kws_edge.ranges import whole


def add(commands) -> None:
    parser = commands.add_parser(
        "export-microwakeword",
        help="export one word of a run to ESPHome's micro_wake_word",
        description="Write a model of one word in microWakeWord's form, and its manifest. ESPHome's micro_wake_word and"
        " pymicro-wakeword take both. Streams choose the cutoff and the window of the manifest, as kws-host calibrate"
        " does: those without labels count false accepts, those with labels count misses.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run of --preset microwakeword")
    options.add_streams(parser, needed=False)
    parser.add_argument("--word", required=True, metavar="WORD", help="word of the run that the model hears")
    parser.add_argument(
        "-o", "--output", type=output_path, required=True, metavar="JSON", help="manifest; the model is beside it"
    )
    parser.add_argument(
        "--budget", type=BUDGET, metavar="N", help="false accepts per hour to expect on other streams; default 1"
    )
    add_setting(parser, "threshold", help="cutoff, without streams")
    add_setting(parser, "smoothing_ms", metavar="MS", help="length of the window, without streams")
    parser.add_argument("--author", default="kws-edge", metavar="TEXT", help="author that the manifest names")
    parser.add_argument(
        "--language", nargs="+", default=["en"], metavar="CODE", help="languages in which the word was recorded"
    )
    parser.add_argument("--samples", type=whole(1, 1_000_000), default=200, help="calibration examples")
    parser.add_argument("--seed", type=SEED, default=0, help="choice of calibration examples")
    parser.set_defaults(work=work)


def work(args: argparse.Namespace) -> None:
    given = {name: x for name in ("threshold", "smoothing_ms") if (x := getattr(args, name)) is not None}
    if args.streams and given:
        raise UsageError(f"--{next(iter(given)).replace('_', '-')} goes without streams, which choose it")
    if args.budget is not None and not args.streams:
        raise UsageError("--budget takes streams to count false accepts on: name recordings, or folders of them")
    options.use_tensorflow()
    from host_tools.convert.micro_wake_word_export import check_exportable, check_output, export_run
    from host_tools.training.run import load_run

    check_output(args.output)
    run = load_run(args.run)
    check_exportable(run, args.word)
    streams = options.streams(args) if args.streams else []
    exported = export_run(
        run,
        args.word,
        args.output,
        streams=streams,
        conditions=options.conditions(args, streams),
        budget=1.0 if args.budget is None else args.budget,
        detector_config=DetectorConfig(**given),
        author=args.author,
        languages=args.language,
        n=args.samples,
        seed=args.seed,
        workers=args.workers,
    )
    print(
        f"wrote {exported.manifest} and {exported.model}, {exported.model.stat().st_size:,} bytes: cutoff"
        f" {exported.probability_cutoff:.2f}, window {exported.sliding_window_size}, arena"
        f" {exported.tensor_arena_size:,} bytes"
    )
    if exported.calibration:
        print(f"to expect elsewhere: {exported.calibration.promise}")
    elif not given:
        print("cutoff and window are defaults: name streams to choose them for a budget of false accepts")
