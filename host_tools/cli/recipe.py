"""``kws-host recipe``: everything from data to the finished file."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import textwrap
from pathlib import Path

from kws_edge.cli.guard import interrupted_by
from kws_edge.cli.parser import output_path
from kws_edge.errors import UsageError
from kws_edge.ranges import number
from kws_edge.text import printable


def add(commands) -> None:
    recipe = commands.add_parser(
        "recipe",
        help="make a model from its recipe: everything from data to the finished file",
        description="A recipe is a TOML file whose stages lead from data to a finished model. Results lie in"
        " RUNS/NAME, a folder for each stage. A stage that is done runs again only if something it depends on changes.",
    )
    actions = recipe.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, work, about in (
        ("plan", _plan, "show the stages, what each takes, and its options"),
        ("status", _status, "say which stages are done, stale or missing"),
        ("explain", _explain, "say why stages are not done, and which commands would do them"),
        ("run", _run, "run the stages that are not done; after an interruption, go on"),
        ("compare", _compare, "say whether data, libraries and results are those of a model's lock"),
    ):
        action = actions.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
        action.add_argument("recipe", metavar="NAME|FILE", help="a recipe in the folder recipes, or a .toml file")
        if name == "compare":
            action.add_argument("lock", type=Path, metavar="LOCK", help=".lock.json of a model that the recipe made")
        else:
            action.add_argument(
                "--until",
                action="append",
                default=[],
                metavar="STAGE",
                help="only this stage and the stages that it needs; repeatable",
            )
        action.add_argument(
            "--set",
            dest="changes",
            action="append",
            default=[],
            metavar="STAGE.OPTION=VALUE",
            help="another value of an option, such as base.epochs=1; repeatable",
        )
        action.add_argument(
            "--scale",
            type=number(1e-4, 1),
            default=1.0,
            metavar="X",
            help="this share of all training, synthetic speech and words in streams, to try a recipe (default: 1)",
        )
        action.add_argument(
            "--data", type=Path, metavar="DIR", help="folder that holds the data (default: KWS_TEST_DATA)"
        )
        action.add_argument(
            "-o",
            "--output",
            type=output_path,
            default=Path("runs"),
            metavar="RUNS",
            help="folder of results (default: runs)",
        )
        if name in ("status", "plan", "compare"):
            action.add_argument("--json", action="store_true", help="one JSON object")
        action.set_defaults(work=work)


def _workshop(args: argparse.Namespace):
    from host_tools.recipe.extends import find_recipe
    from host_tools.recipe.file import load_recipe
    from host_tools.recipe.graph import Workshop

    changes = {}
    for one in args.changes:
        name, equals, value = one.partition("=")
        if not equals:
            raise UsageError(f"--set takes STAGE.OPTION=VALUE, got {one!r}")
        changes[name] = value
    recipe = load_recipe(find_recipe(args.recipe), changes=changes, scale=args.scale)
    given = args.data or os.environ.get("KWS_TEST_DATA")
    return Workshop(recipe, args.output / recipe.name, Path(given) if given else None)


def _plan(args: argparse.Namespace) -> None:
    workshop = _workshop(args)
    recipe = workshop.recipe
    stages = recipe.up_to(*args.until)
    if args.json:
        values = [
            {
                "id": one.id,
                "do": one.do,
                "why": one.why,
                "stages": list(one.parents),
                "data": list(one.data),
                "options": dict(one.resolved),
            }
            for one in stages
        ]
        print(json.dumps({"name": recipe.name, "about": recipe.about, "stages": values}))
        return
    print(printable(f"{recipe.name}: {recipe.about}"))
    width = max(len(one.id) for one in stages)
    for position, one in enumerate(stages, 1):
        takes = ", ".join([*one.parents, *one.shipped, *(f"({name})" for name in one.data)]) or "nothing"
        print(f"\n{position:>2}  {one.id:<{width}}  {one.do}  <-  {takes}")
        print(textwrap.fill(printable(one.why), 100, initial_indent="    ", subsequent_indent="    "))
        options = " ".join(f"{k}={_short(v)}" for k, v in one.options.items())
        print(textwrap.fill(options, 100, initial_indent="    ", subsequent_indent="      ", break_on_hyphens=False))


def _short(value: object) -> str:
    return printable(",".join(str(one) for one in value) if isinstance(value, list) else str(value))


def _status(args: argparse.Namespace) -> None:
    workshop = _workshop(args)
    wanted = workshop.recipe.up_to(*args.until)
    states = workshop.states(wanted)
    if args.json:
        print(
            json.dumps(
                {
                    one.id: {
                        "state": states[one.id].name,
                        "output": str(workshop.output(one, states[one.id].result.folder))
                        if states[one.id].result
                        else None,
                        "reasons": list(states[one.id].reasons),
                    }
                    for one in wanted
                }
            )
        )
        return
    width = max(len(one.id) for one in wanted)
    for one in wanted:
        state = states[one.id]
        where = workshop.output(one, state.result.folder) if state.result else "; ".join(state.reasons[:1])
        print(f"{one.id:<{width}}  {state.name:<10}  {where}".rstrip())


def _explain(args: argparse.Namespace) -> None:
    workshop = _workshop(args)
    wanted = workshop.recipe.up_to(*args.until)
    states = workshop.states(wanted)
    for one in wanted:
        state = states[one.id]
        print(f"{one.id}: {state.name}")
        for line in state.reasons:
            print(f"  {line}")
        if state.result is None and state.key:
            arguments = workshop.arguments(one, states, workshop.folder_of(one, state.key))
            print(f"  {shlex.join([one.kind.program, *arguments])}")


def _run(args: argparse.Namespace) -> None:
    from host_tools.recipe.run import run

    interrupted_by("SIGTERM", "SIGHUP")
    workshop = _workshop(args)
    states = run(workshop, until=args.until, say=lambda line: print(printable(line), flush=True))
    last = workshop.recipe.up_to(*args.until)[-1]
    print(f"{workshop.recipe.name}: everything is done; the last: {workshop.output(last, states[last.id].done.folder)}")


def _compare(args: argparse.Namespace) -> None:
    from host_tools.recipe.compare import compared, read_lock

    workshop = _workshop(args)
    found = compared(workshop, read_lock(args.lock, workshop.recipe))
    if args.json:
        print(json.dumps({"same": all(one.same for one in found), "found": [one._asdict() for one in found]}))
        return
    width = min(30, max((len(one.name) for one in found), default=0))
    for one in found:
        print(printable(f"{one.kind:<7}  {one.name:<{width}}  {one.found}", most=300))
