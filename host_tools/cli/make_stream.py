"""``kws-host make-stream``: a long stream of clips, with exact truth."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from host_tools.cli import options
from host_tools.errors import DatasetError
from host_tools.evaluation.stream_config import StreamConfig
from host_tools.options import add_options
from kws_edge.cli.parser import output_path
from kws_edge.errors import ConfigError, UsageError
from kws_edge.text import counted


def add(commands) -> None:
    parser = commands.add_parser(
        "make-stream",
        help="mix clips into a long stream with exact truth",
        description="Mix clips of words into a long stream, and write where each word is said to a CSV beside it."
        " The same options give the same bytes.",
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="folder laid out <word>/<speaker>_nohash_<n>.wav")
    parser.add_argument(
        "-o", "--output", type=output_path, required=True, metavar="FILE", help=".flac or .wav to write"
    )
    parser.add_argument(
        "--split", default="validation", choices=("training", "validation", "testing", "all"), help="clips to draw from"
    )
    parser.add_argument("--words", metavar="A,B,...", help="keywords; default: the ten commands")
    parser.add_argument(
        "--background", type=Path, nargs="+", default=[], metavar="DIR", help="recordings; without them faint noise"
    )
    options.add_half(parser, "training", "half of these recordings, by speaker")
    add_options(parser, StreamConfig)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(work=work)


def work(args: argparse.Namespace) -> None:
    from host_tools.data.dataset import index_clips
    from host_tools.data.label_sets import LABEL_SETS, spelt
    from host_tools.data.recordings import recordings
    from host_tools.evaluation.stream_synthesis import make_stream
    from kws_edge.labels import is_keyword

    try:
        config = StreamConfig.from_options(vars(args))
    except ConfigError as error:
        raise UsageError(str(error).partition(": ")[2]) from None  # without the name of the class
    words = [spelt(w.strip()) for w in args.words.split(",")] if args.words else LABEL_SETS["commands12"]
    index = index_clips(args.data)
    every = [clip for clip in index.clips if args.split in (clip.split, "all")]
    clips = [clip for clip in every if clip.word in words and is_keyword(clip.word)]
    if missing := sorted(set(words) - {clip.word for clip in clips}) if args.words else []:
        raise DatasetError(f"{args.data}: no {args.split} clips of {', '.join(missing)}")
    if not clips:
        raise DatasetError(f"{args.data}: no {args.split} clips of the ten commands; name others with --words")
    found = [recordings(folder, options.half(args)) for folder in args.background]
    backgrounds = [path for one in found for path in one.paths]
    left_out = [*index.left_out, *(one for each in found for one in each.left_out)]
    others = [clip for clip in every if clip.word not in words]
    summary = make_stream(args.output, config, clips, others=others, backgrounds=backgrounds)
    for line in index.problems:
        print(f"kws-host: {line}", file=sys.stderr)
    options.count_left_out(left_out)
    if args.json:
        print(json.dumps(dataclasses.asdict(summary)))
        return
    said = ", ".join(f"{word} {n}" for word, n in summary.words.items())
    print(f"wrote {summary.file}, {summary.seconds:.1f} s, and {summary.labels}: {said or 'no words'}")
    if summary.clipped:
        print(f"warning: {counted(summary.clipped, 'sample')} cut at full scale; lower --gain-db")
