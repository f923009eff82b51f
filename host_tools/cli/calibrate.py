"""``kws-host calibrate``: the detector's settings for a budget of false accepts."""

from __future__ import annotations

import argparse
import json
from collections import Counter

from host_tools.cli import options
from kws_edge.cli.options import BUDGET, add_foreign, add_setting, changed, check_step, threshold_of, thresholds
from kws_edge.cli.parser import output_path
from kws_edge.text import counted


def add(commands) -> None:
    parser = commands.add_parser(
        "calibrate",
        help="choose the detector's settings for a budget of false accepts",
        description="Choose smoothing, threshold, hysteresis and refractory time on development streams, and write them"
        " into a model file, with what other thresholds do (kws-edge listen --sensitivity). Streams without labels"
        " count false accepts. Streams with labels, as make-stream writes them, count misses.",
    )
    parser.add_argument("model", metavar="MODEL", help="shipped model or .tflite file")
    add_foreign(parser)
    options.add_streams(parser)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--budget",
        type=BUDGET,
        metavar="N",
        help="false accepts per hour to expect on other streams: one more than counted is expected, and a place counts"
        " once under all conditions; default 1",
    )
    choice.add_argument(
        "--threshold",
        type=threshold_of,
        action="append",
        default=[],
        metavar="[KEYWORD=]X",
        help="measure and write this threshold, and choose nothing; repeatable",
    )
    add_setting(parser, "smoothing_ms", metavar="MS", help="this smoothing time only")
    add_setting(
        parser,
        "speech_margin",
        metavar="X",
        help="how much more than the threshold a keyword needs after speech; default: the model's own",
    )
    add_setting(
        parser,
        "step_ms",
        metavar="MS",
        help="time from one inference to the next: a longer one costs less, and answers come later; default: the"
        " model's own",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "-o", "--output", type=output_path, metavar="FILE", help=".tflite to write; default: only show the settings"
    )
    parser.set_defaults(work=work)


def work(args: argparse.Namespace) -> None:
    from host_tools.evaluation.calibration import calibrate, write_calibrated
    from kws_edge.model.model import Model

    budget = 1.0 if args.budget is None and not args.threshold else args.budget
    say = (lambda line: None) if args.json else print
    streams, foreign = options.streams(args), options.foreign(args)
    model = Model(args.model, **foreign)
    own = model.detector_config
    if args.step_ms is not None:
        check_step(args.step_ms, model)
    given = {"threshold": own.threshold, **thresholds(args.threshold, own.thresholds)} if args.threshold else {}
    changed(model, own, given)  # refuses bad settings before the streams are heard
    result = calibrate(
        args.model,
        streams,
        budget=budget,
        conditions=options.conditions(args, streams),
        smoothing_ms=args.smoothing_ms,
        **given,
        speech_margin=args.speech_margin,
        step_ms=args.step_ms,
        **foreign,
        workers=args.workers,
        say=say,
    )
    if args.json:
        print(json.dumps(result.to_dict()))
    else:
        for name, trial in (("before", result.before), ("chosen", result.after)):
            v = trial.to_dict()
            low, high = v["interval_95"]
            accepts, words = counted(v["false_accepts"], "false accept"), counted(v["words"], "word")
            print(
                f"{name}: smoothing {v['smoothing_ms']:g} ms, threshold {v['threshold']:.2f}, hysteresis"
                f" {v['hysteresis']:g}, refractory {v['refractory_ms']:g} ms: {accepts} in"
                f" {v['hours']:.2f} hours ({low:.2f} to {high:.2f} per hour; to expect:"
                f" {v['expected_per_hour']:.2f}), {100 * v['false_reject_rate']:.2f} % of {words} missed"
            )
        print(f"to expect elsewhere: {result.promise}")
        for point in result.operating_points:
            print(point)
    if args.output:
        folders = Counter(path.parent.name for path in args.streams)
        names = [p.name if folders[p.parent.name] < 10 else f"{p.parent.name}/" for p in args.streams]
        write_calibrated(args.model, result, args.output, data=list(dict.fromkeys(names)), labels=foreign["labels"])
        if not args.json:
            print(f"wrote {args.output}")
