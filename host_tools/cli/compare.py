"""``kws-host compare``: in what runs differ."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add(commands) -> None:
    parser = commands.add_parser(
        "compare",
        help="show how runs differ, and how well each did",
        description="Show the options, data and versions in which runs differ, and the best epoch of each.",
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a run")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(work=work)


def work(args: argparse.Namespace) -> None:
    from host_tools.evaluation.run_comparison import compare_runs, comparison_table
    from host_tools.training.run import load_run

    compared = compare_runs([load_run(folder) for folder in args.runs])
    print(json.dumps(compared) if args.json else comparison_table(compared))
