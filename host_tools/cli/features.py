"""``kws-host features``: the features of a corpus in shards."""

from __future__ import annotations

import argparse
from pathlib import Path

from host_tools.cli import options
from host_tools.cluster.place import add_on
from host_tools.config import NetworkConfig
from host_tools.options import add_option
from kws_edge.cli.parser import output_path
from kws_edge.ranges import whole
from kws_edge.text import counted, printable


def add(commands) -> None:
    parser = commands.add_parser(
        "features",
        help="compute the features of a corpus into shards, which train --features reads",
        description="Compute the features of a corpus once, into shards that training reads a part at a time. CORPUS is"
        " a folder laid out <word>/*.wav, a folder of tar files as WebDataset lays them out, a pattern such as"
        " 's3://bucket/*.tar', or a .txt file that lists clips or tar files. All of them may be URLs. The same command"
        " goes on where an interrupted one stopped. Of a changed corpus it computes the changed shards.",
    )
    parser.add_argument("corpus", metavar="CORPUS", help="folder, tar file, pattern or list, as path or URL")
    parser.add_argument("output", type=output_path, metavar="OUT", help="folder of the shards")
    parser.add_argument(
        "--shards",
        type=whole(1, 1_000_000),
        default=64,
        metavar="N",
        help="number of shards; of tar files at most one each",
    )
    frontend = NetworkConfig.options()["frontend"]
    add_option(parser, frontend, frontend.default)
    add_on(parser, "features are computed")
    parser.add_argument("--workers", type=whole(1, 1024), metavar="N", help="processes here; default: one a core")
    parser.set_defaults(work=work)


def work(args: argparse.Namespace) -> None:
    from host_tools.data.dataset import spelt_alike
    from host_tools.data.recordings import LeftOut
    from host_tools.data.splits import PARTS
    from host_tools.shards.make import make_features
    from kws_edge.presets import preset

    made = make_features(
        args.corpus,
        args.output,
        preset(args.frontend),
        shards=args.shards,
        where=args.on,
        workers=args.workers,
    )
    shards, corpus = made.shards, made.corpus
    every_word = sorted({word for words in shards.words.values() for word in words})
    for line in dict.fromkeys([*corpus.problems, *spelt_alike(every_word)]):
        print(f"problem: {line}")
    left_out = [*corpus.left_out, *(LeftOut(Path(name), why) for name, why in shards.first_left_out)]
    for one in left_out:
        print(f"left out: {one}")
    options.count_left_out(left_out)
    if made.removed:
        print(f"{counted(made.removed, 'shard')} of earlier clips removed")
    parts = ", ".join(f"{part} {sum(shards.words.get(part, {}).values()):,}" for part in PARTS)
    what = f"{counted(shards.clips, 'clip')} of {counted(len(every_word), 'word')}"
    print(f"{what} in {counted(len(shards.shards), 'shard')}: {parts}")
    print(printable(f"next: kws-host train --features {args.output} --noise NOISE -o RUN"))
