"""``kws-host index``: what a folder of clips holds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from host_tools.cli import options
from host_tools.config import SEED
from host_tools.errors import DatasetError
from kws_edge.text import counted, printable


def add(commands) -> None:
    parser = commands.add_parser("index", help="count the clips of a Speech Commands folder by word and split")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder laid out <word>/<speaker>_nohash_<n>.wav")
    parser.add_argument(
        "--split", choices=("official", "random"), default="official", help="by speaker, or 70/15/15 at random"
    )
    parser.add_argument("--seed", type=SEED, default=1, help="seed of the random split")
    parser.add_argument("--check", action="store_true", help="read every file and list those that cannot be used")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(work=work)


def work(args: argparse.Namespace) -> None:
    from host_tools.data.dataset import BACKGROUND_FOLDER, Voices, count, index_clips
    from host_tools.data.features import read_clip
    from kws_edge.presets import preset

    index = index_clips(args.data, split=args.split, seed=args.seed)
    clips, background, problems = index.clips, index.background, index.problems
    words = {word: count(c.split for c in clips if c.word == word) for word in sorted({c.word for c in clips})}
    voices = Voices.of(clips)
    if args.check:
        from tqdm import tqdm

        for path in tqdm([*(c.path for c in clips), *background], desc="reading", unit="clip", mininterval=0.5):
            try:
                read_clip(path, preset("logmel40"))
            except DatasetError as error:
                problems.append(str(error))
    total = count(c.split for c in clips)
    values = {
        "classes": len(words) + bool(background),
        "files": len(clips) + len(background),
        "clips": len(clips),
        "splits": total,
        "words": words,
        BACKGROUND_FOLDER: len(background),
        "speakers_outside_training": {"all": voices.others, "also_in_training": voices.shared},
        "clips_without_speaker_outside_training": voices.unnamed,
        "problems": problems,
        "left_out": [str(one) for one in index.left_out],
    }
    if args.json:
        print(json.dumps(values))
        return
    parts = ("training", "validation", "testing")
    print(f"{'word':<20}" + "".join(f"{part:>12}" for part in parts))
    for word, by_split in words.items():
        print(f"{printable(word):<20}" + "".join(f"{by_split.get(part, 0):>12}" for part in parts))
    print(f"{counted(len(clips), 'clip'):<20}" + "".join(f"{total.get(part, 0):>12}" for part in parts))
    if background:
        print(f"{BACKGROUND_FOLDER}: {counted(len(background), 'recording')}")
    print(f"{values['classes']} classes, {values['files']} files")
    if str(voices):
        print(f"warning: {voices} (split {args.split})")
    for line in problems:
        print(f"problem: {line}")
    for one in index.left_out:
        print(f"left out: {one}")
    options.count_left_out(index.left_out)
