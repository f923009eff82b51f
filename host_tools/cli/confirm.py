"""``kws-host confirm``: a network with state, and another that confirms its answers, in one model file."""

from __future__ import annotations

import argparse
import dataclasses

from kws_edge.cli.parser import output_path
from kws_edge.config import ConfirmConfig


def add(commands) -> None:
    parser = commands.add_parser(
        "confirm",
        help="let a second network confirm the answers of a network with state",
        description="Write one model file of two. The first, a network with state, hears every moment. Where it "
        "almost hears a keyword, the second, a network of clips, hears the last second too. Both must agree. Calibrate "
        "the new file, because its posteriors are others.",
    )
    parser.add_argument("model", metavar="FIRST", help="model file of a network with state")
    parser.add_argument("second", metavar="SECOND", help="shipped model or .tflite file of a network of clips")
    parser.add_argument("-o", "--output", type=output_path, required=True, metavar="FILE", help=".tflite to write")
    for one in dataclasses.fields(ConfirmConfig):
        about = ConfirmConfig.about(one.name)
        parser.add_argument(
            f"--{one.name.replace('_', '-')}",
            type=about["values"],
            default=one.default,
            metavar="N",
            help=about["help"],
        )
    parser.set_defaults(work=work)


def work(args: argparse.Namespace) -> None:
    from host_tools.convert.confirm import confirmed

    settings = {one.name: getattr(args, one.name) for one in dataclasses.fields(ConfirmConfig)}
    confirmed(args.model, args.second, args.output, ConfirmConfig(**settings))
    print(f"wrote {args.output}, {args.output.stat().st_size:,} bytes; calibrate it next")
