"""``kws-host collect``: real voices and sounds."""

from __future__ import annotations

import argparse
from pathlib import Path

from kws_edge.cli.parser import output_path


def add(commands) -> None:
    parser = commands.add_parser(
        "collect",
        help="fetch real voices and sounds from Debian's packages or git repositories: negatives",
        description="Download free packages of Debian, such as games and telephone prompts, without installing them."
        " With --from repositories, fetch recordings of public git repositories at fixed commits. Human speech without"
        " the ten commands goes to DIR/speech, sounds and music go to DIR/noise, both as FLAC. Licences go to"
        " DIR/licences. It takes some minutes, and 5 GB for packages or 2 GB for repositories. The same command goes on"
        " where an interrupted one stopped. Train with --more-speech DIR/speech --more-noise DIR/noise. Sounds of"
        " repositories lie in groups below these, as in DIR/speech/words.",
    )
    parser.add_argument(
        "--from",
        dest="table",
        default="debian",
        metavar="NAME|FILE",
        help="what to take: debian, repositories, music to measure on, or your own table, a .toml file"
        " (default: debian)",
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
