"""``kws-host collect``: real voices and sounds."""

from __future__ import annotations

import argparse
from pathlib import Path

from kws_edge.cli.parser import output_path


def add(commands) -> None:
    parser = commands.add_parser(
        "collect",
        help="fetch real voices and sounds from Debian's packages or git repositories: negatives",
        description="Download free packages of Debian (games, teaching programs, telephone prompts; none is installed)"
        " or, with --from repositories, recordings out of public git repositories at fixed commits, and write what they"
        " hold of human speech without the ten commands to DIR/speech, of sounds and music to DIR/noise, as FLAC, and"
        " their licences to DIR/licences. Takes some minutes and 5 GB, or 2 GB; the same command goes on where an"
        " interrupted one stopped. For train --more-speech DIR/speech --more-noise DIR/noise; repositories are grouped"
        " below these, as in DIR/speech/words.",
    )
    parser.add_argument(
        "--from",
        dest="table",
        default="debian",
        metavar="NAME|FILE",
        help="what to take: debian, repositories, or your own table, a .toml file (default: debian)",
    )
    parser.add_argument("-o", "--output", type=output_path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="where packages or clones are kept; default: DIR/packages or DIR/repositories",
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these packages or repositories")
    parser.add_argument("--without", nargs="+", default=[], metavar="NAME", help="not these packages or repositories")
    parser.set_defaults(work=work)


def work(args: argparse.Namespace) -> None:
    from host_tools.data.collect import collect
    from host_tools.data.source_tables import load_table

    table = load_table(args.table)
    minutes = collect(args.output, table, cache=args.cache, only=args.only, without=args.without)
    print(", ".join(f"{n:.1f} minutes of {kind}" for kind, n in minutes.items()), "in", args.output)
