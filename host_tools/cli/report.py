"""``kws-host report``: a network in every form, on the same clips."""

from __future__ import annotations

import argparse
from pathlib import Path

from host_tools.cli import options
from kws_edge.cli.parser import output_path
from kws_edge.errors import UsageError


def add(commands) -> None:
    parser = commands.add_parser(
        "report",
        help="compare FP32, float TFLite, PTQ and QAT on the same clips",
        description="Convert a run to every form, measure each on the same clips, and write report.md, report.json,"
        " confusion.png and the models to a folder. Without --clips and --features it tests on the testing part of the"
        " run's own clips. --split names another part.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of the float run")
    parser.add_argument("--qat", type=Path, metavar="QAT_RUN", help="folder of its quantisation-aware run")
    options.add_test(parser)
    parser.add_argument("-o", "--output", type=output_path, required=True, metavar="DIR", help="folder to write to")
    parser.set_defaults(work=work)


def work(args: argparse.Namespace) -> None:
    if args.clips and args.features:
        raise UsageError("a report is of --clips or of --features: give one of them")
    options.use_tensorflow()
    from host_tools.evaluation.quantization_report import compare, own_test_set
    from host_tools.locks import locked
    from host_tools.training.run import load_run

    run = load_run(args.run)
    if args.clips or args.features:
        (test,) = options.test_sets(args, run)
    else:
        test = own_test_set(run, **options.which_clips(args))
    with locked(args.output):
        compare(run, test, args.output, qat=load_run(args.qat) if args.qat else None)
