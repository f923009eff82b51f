"""``kws-host import``: a model file of a network from elsewhere."""

from __future__ import annotations

import argparse
from pathlib import Path

from host_tools.cli import options
from host_tools.config import SEED
from kws_edge.cli.options import add_foreign
from kws_edge.cli.parser import output_path
from kws_edge.ranges import whole


def add(commands) -> None:
    parser = commands.add_parser(
        "import",
        help="make a model file of a network from elsewhere",
        description="Make a model file of a network that was not trained here. The network is a TFLite file in INT8 or"
        " float, or a Keras file. A float network is quantised on recordings. The model file is checked and run once.",
    )
    parser.add_argument("model", type=Path, metavar="FILE", help=".tflite or .keras file")
    parser.add_argument("-o", "--output", type=output_path, required=True, metavar="FILE", help=".tflite to write")
    add_foreign(parser)
    parser.add_argument(
        "--clips", type=Path, metavar="DIR", help="recordings such as the network will hear, to quantise a float one on"
    )
    parser.add_argument("--samples", type=whole(1, 1_000_000), default=200, help="number of these recordings to use")
    parser.add_argument("--seed", type=SEED, default=0, help="seed of their choice")
    parser.add_argument("--name", help="name that the file carries; default: the file's")
    parser.add_argument("--description", default="", metavar="TEXT", help="description that the file carries")
    parser.add_argument("--licence", default="", metavar="TEXT", help="licence of the weights that the file carries")
    options.add_carried(parser)
    parser.set_defaults(work=work)


def work(args: argparse.Namespace) -> None:
    options.use_tensorflow()
    from host_tools.convert.model_import import import_model

    imported = import_model(
        args.model,
        args.output,
        **options.foreign(args),
        changes=options.carried(args),
        name=args.name or "",
        description=args.description,
        licence=args.licence,
        clips=args.clips,
        n=args.samples,
        seed=args.seed,
    )
    frontend_config, labels = imported.metadata.frontend_config, imported.metadata.labels
    frames = f"{frontend_config.feature_shape[0]} frames of {frontend_config.frame_text}"
    print(f"wrote {args.output}, {imported.size:,} bytes: {frames} to {', '.join(labels)}")
    for note in imported.notes:
        print(f"note: {note}")
