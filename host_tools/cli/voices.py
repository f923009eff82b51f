"""``kws-host voices``: learn what tells voices apart."""

from __future__ import annotations

import argparse
from pathlib import Path

from kws_edge.cli.parser import output_path
from kws_edge.ranges import whole


def add(commands) -> None:
    parser = commands.add_parser(
        "voices",
        help="learn with what `kws-edge listen --only-me` tells voices apart",
        description="Learn what tells voices apart from the training clips of Speech Commands, whose file names tell "
        "the speakers. It serves every model with the same front end.",
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="clips, laid out as Speech Commands is")
    parser.add_argument("-o", "--output", type=output_path, required=True, metavar="FILE", help=".voices.npz to write")
    parser.add_argument("--noise", type=Path, required=True, metavar="DIR", help="noise")
    parser.add_argument("--frontend", default="logmel40", metavar="NAME", help="preset of the front end")
    parser.add_argument("--copies", type=whole(1, 20), default=3, help="variations of each clip")
    parser.add_argument("--seed", type=whole(0, 2**31 - 1), default=1, help="seed of variations")
    parser.set_defaults(work=work)


def work(args: argparse.Namespace) -> None:
    from host_tools.data.dataset import index_clips
    from host_tools.training.voices import train_voices
    from kws_edge.presets import preset

    config, clips = preset(args.frontend), index_clips(args.data).clips
    about = train_voices(clips, args.noise, config, args.output, copies=args.copies, seed=args.seed)
    made = about["made"]
    print(f"wrote {args.output}, of {made['clips']:,} clips of {made['speakers']:,} speakers")
