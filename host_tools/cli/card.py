"""``kws-host card``: a model's card."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from host_tools.cli import options
from host_tools.errors import DatasetError
from kws_edge.cli.options import add_foreign
from kws_edge.cli.parser import output_path


def add(commands) -> None:
    parser = commands.add_parser("card", help="write a model's card", description="Write a model card in Markdown.")
    parser.add_argument("model", metavar="MODEL", help="shipped model or .tflite file")
    add_foreign(parser)
    parser.add_argument("-o", "--output", type=output_path, required=True, metavar="MD", help="file to write")
    parser.add_argument(
        "--evaluation", type=Path, nargs="+", default=[], metavar="JSON", help="of kws-host evaluate -o"
    )
    parser.add_argument("--arena", type=Path, metavar="JSON", help="of kws-firmware arena --json")
    parser.add_argument("--report", type=Path, metavar="JSON", help="report.json of kws-host report")
    parser.set_defaults(work=work)


def work(args: argparse.Namespace) -> None:
    from host_tools.convert.card import model_card
    from kws_edge.files import write_atomically
    from kws_edge.model.model import Model
    from kws_edge.text import parse_json, read_text

    model = Model(args.model, **options.foreign(args))

    def tried(what: object, make: Callable):
        """What `make` gives; `what` names the file if that is of another form."""
        try:
            return make()
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            reason = f"no {error}" if isinstance(error, LookupError) else getattr(error, "strerror", None) or error
            raise DatasetError(f"{what}: no card can be made of it ({reason})") from None

    def read(path: Path | None, name: str):
        """The JSON at `path`, having made a card of it alone."""
        if path is None:
            return None
        values = tried(path, lambda: parse_json(read_text(path)))
        given = {"evaluations": [values]} if name == "evaluation" else {"evaluations": (), name: values}
        tried(path, lambda: model_card(model, **given))
        return values

    tried(args.model, lambda: model_card(model, ()))
    evaluations = [read(path, "evaluation") for path in args.evaluation]
    text = model_card(model, evaluations, arena=read(args.arena, "arena"), report=read(args.report, "report"))
    write_atomically(args.output, text)
    print(f"wrote {args.output}")
