"""``kws-host evaluate``: accuracy on clips."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from host_tools.cli import options
from host_tools.errors import DatasetError
from kws_edge.cli.options import add_foreign, add_kernels
from kws_edge.cli.parser import output_path


def add(commands) -> None:
    parser = commands.add_parser("evaluate", help="accuracy of a model file, or of a run's float network, on clips")
    parser.add_argument("model", metavar="MODEL|RUN", help="shipped model, .tflite file, or folder of a run")
    add_foreign(parser)
    options.add_test(parser)
    add_kernels(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "-o", "--output", type=output_path, metavar="JSON", help="also write the JSON object to this file"
    )
    options.add_errors(parser, "copy misclassified clips to this new folder, with a table of posteriors")
    parser.set_defaults(work=work)


def work(args: argparse.Namespace) -> None:
    from host_tools.evaluation.clips import evaluate, write_errors
    from host_tools.evaluation.mistakes import check_unused
    from kws_edge.files import write_atomically

    if args.errors:
        check_unused(args.errors)
    subject = _subject(args)
    kind = "Keras" if Path(args.model).is_dir() else "INT8"
    results, heard = [], []
    for test in options.test_sets(args, subject):
        result = evaluate(subject, test)
        heard.append((test, result))
        results.append({"data": test.name, "skipped": list(test.skipped), **result.to_dict()})
        if not args.json:
            print(f"{args.model} ({kind}) on {test.name}\n{result.table()}")
            for line in test.skipped:
                print(f"left out: {line}")
    if args.errors:
        wrote = write_errors(args.errors, heard, most=args.most_errors)
        if not args.json:
            print(wrote)
    values = {"model": Path(args.model).name, "kind": kind, "results": results}
    if args.json:
        print(json.dumps(values))
    if args.output:
        write_atomically(args.output, json.dumps(values, indent=1) + "\n")


def _subject(args: argparse.Namespace):
    """The run or the model file to evaluate."""
    if Path(args.model).is_dir():
        from host_tools.training.run import load_run

        if args.labels or args.frontend:
            raise DatasetError(f"{args.model}: is a run, which names its labels and its front end itself")
        return load_run(args.model)
    from kws_edge.model.model import Model

    return Model(args.model, kernels=args.kernels, **options.foreign(args))
