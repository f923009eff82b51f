"""``kws-edge classify``: one label for each short clip."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

import numpy as np

from kws_edge.audio.file import AudioFile
from kws_edge.cli import options
from kws_edge.errors import KwsError
from kws_edge.labels import MAX_LABELS
from kws_edge.ranges import whole
from kws_edge.text import printable

if TYPE_CHECKING:
    from kws_edge.cli.parser import Commands

_LONGEST_S = 600


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "classify",
        help="label short clips",
        description="Print the label of one clip per file, and the likeliest others. The file is centred in the "
        "model's window, which is about a second long.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="audio file")
    options.add_model(parser)
    parser.add_argument("--top", type=whole(1, MAX_LABELS), default=3, metavar="K", help="labels to show")
    parser.add_argument("--json", action="store_true", help="one JSON object per file and line")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    model = options.load_model(args)
    c = model.frontend_config
    status = 0
    for name in args.files:
        shown = printable(name)
        try:
            with AudioFile(name, sample_rate=c.sample_rate) as audio:
                samples = audio.read_all(longest_s=_LONGEST_S)
            label, score, posteriors = model.classify(samples)
        except KwsError as error:
            print(f"kws-edge: {error}", file=sys.stderr)
            status = 1
            continue
        if audio.remark:
            print(f"kws-edge: {shown}: {audio.remark}", file=sys.stderr)
        if len(samples) > 1.5 * c.clip_samples:
            print(
                f"kws-edge: {shown}: {len(samples) / c.sample_rate:.1f} s; only the middle {c.clip_ms / 1000:g} s is "
                "classified (kws-edge detect hears all of it)",
                file=sys.stderr,
            )
        order = np.argsort(-posteriors, kind="stable")
        others = [(model.labels[i], float(posteriors[i])) for i in order if model.labels[i] != label]
        top = [[word, round(value, 4)] for word, value in [(label, score), *others][: args.top]]
        if args.json:
            print(json.dumps({"file": name, "top": top}), flush=True)
        else:
            print(f"{shown}: " + "  ".join(f"{label} {score:.2f}" for label, score in top), flush=True)
    return status
