"""``kws-host sweep``: trials of a recipe that differ in some of its options, and the best of them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from host_tools.cluster.place import LOCAL, add_on
from kws_edge.cli.guard import interrupted_by
from kws_edge.cli.parser import output_path
from kws_edge.errors import UsageError
from kws_edge.ranges import number
from kws_edge.text import printable


def add(commands) -> None:
    parser = commands.add_parser(
        "sweep",
        help="try a recipe with other options, and find the best trial",
        description="A sweep is a TOML file that names a recipe, options of it and values for these, and a figure to"
        " make as large or small as possible. Each trial is a run of the recipe; what trials have in common is done"
        " once. RUNS/NAME gets the results as a table and a plot, and the best trial as a recipe.",
    )
    parser.add_argument("sweep", type=Path, metavar="SWEEP.toml", help="the sweep's file")
    add_on(parser, "trials run")
    parser.add_argument("--resume", action="store_true", help="go on with a sweep that has begun")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--plan", action="store_true", help="check the sweep and list its trials; run nothing")
    shown.add_argument("--status", action="store_true", help="show the results so far; run nothing")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder that holds the data (default: KWS_TEST_DATA)")
    parser.add_argument(
        "-o",
        "--output",
        type=output_path,
        default=Path("runs"),
        metavar="RUNS",
        help="folder of results (default: runs)",
    )
    group = parser.add_argument_group("on Ray")
    group.add_argument(
        "--cpus", type=number(0.1, 4096), metavar="N", help="cores for each trial; default: all of the smallest machine"
    )
    group.add_argument(
        "--gpus", type=number(0, 64), metavar="N", help="GPUs for each trial, such as 0.5; default: 1 if all have one"
    )
    parser.set_defaults(work=work)


def work(args: argparse.Namespace) -> None:
    """Check the sweep, and run it or tell about it."""
    from host_tools.errors import SweepError
    from host_tools.sweep.file import load_sweep
    from host_tools.sweep.outcome import FAILED
    from host_tools.sweep.results import read_results, table
    from host_tools.sweep.run import run_sweep

    interrupted_by("SIGTERM", "SIGHUP")
    sweep = load_sweep(args.sweep)
    resources = {name[:-1]: value for name in ("cpus", "gpus") if (value := getattr(args, name)) is not None}
    if resources and args.on == LOCAL and not sweep.judge:
        raise UsageError("--cpus and --gpus go with --on ray://HEAD, or with asha: else trials run one after another")
    folder = args.output / sweep.name
    if args.plan:
        _plan(sweep)
        return
    if args.status:
        print(table(sweep, read_results(sweep, folder)))
        return
    given = args.data or os.environ.get("KWS_TEST_DATA")
    outcomes = run_sweep(
        sweep,
        runs=args.output,
        data=Path(given) if given else None,
        on=args.on,
        resume=args.resume,
        resources=resources,
        say=lambda line: print(printable(line), flush=True),
    )
    print(f"\n{table(sweep, outcomes)}\n")
    _conclude(sweep, outcomes, folder)
    if failed := sum(one.state == FAILED for one in outcomes):
        raise SweepError(f"{folder}: {failed} of {len(outcomes)} trials failed; --resume tries them again")


def _plan(sweep) -> None:
    """Print what the sweep would do."""
    from host_tools.sweep.outcome import Outcome
    from host_tools.sweep.results import table

    recipe = sweep.load(sweep.trials[0])
    print(printable(f"{sweep.name}: {sweep.about}"))
    print(f"{len(sweep.trials)} trials of {sweep.recipe}, at scale {sweep.scale:g}")
    print(f"stages: {', '.join(stage.id for stage in recipe.up_to(*sweep.wanted(recipe)))}")
    print(f"{'maximize' if sweep.maximize else 'minimize'} {sweep.objective}", *sweep.limits, sep=", with ")
    print(f"\n{table(sweep, [Outcome(trial.number, trial.values) for trial in sweep.trials])}")


def _conclude(sweep, outcomes, folder: Path) -> None:
    from host_tools.sweep.outcome import best_of

    print(f"results: {folder / 'results.csv'}, results.json and parallel.png")
    if best := best_of(sweep, outcomes):
        print(f"the best: trial {best.number}; kws-host recipe run {folder / 'best.toml'} makes it at full scale")
    elif sweep.limits:
        print(f"no trial is within the limits: {', '.join(map(str, sweep.limits))}")
