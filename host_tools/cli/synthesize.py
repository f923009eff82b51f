"""``kws-host synthesize``: speech of synthesisers."""

from __future__ import annotations

import argparse
from pathlib import Path

from host_tools.cli import options
from host_tools.config import SEED
from host_tools.errors import DatasetError
from kws_edge.cli.parser import output_path
from kws_edge.errors import UsageError
from kws_edge.ranges import number, whole
from kws_edge.text import counted


def add(commands) -> None:
    parser = commands.add_parser(
        "synthesize",
        help="make synthetic speech: negatives, and words without recordings",
        description="Make speech with the installed synthesisers: espeak-ng, flite, festival, RHVoice. DIR/speech gets"
        " speech without the keywords. DIR/words gets clips of words, laid out as Speech Commands. The same command"
        " goes on where an interrupted one stopped.",
    )
    parser.add_argument("-o", "--output", type=output_path, required=True, metavar="DIR", help="folder to write to")
    options.add_labels(parser)
    parser.add_argument(
        "--minutes", type=number(0, 1_000_000), default=120.0, help="speech without the keywords; 0: none"
    )
    parser.add_argument("--text", type=Path, metavar="FILE", help="text to speak; default: sentences at random")
    parser.add_argument("--per-word", type=whole(0, 1_000_000), default=200, help="clips of each keyword; 0: none")
    parser.add_argument("--seed", type=SEED, default=1, help="seed of sentences and voices")
    parser.set_defaults(work=work)


def work(args: argparse.Namespace) -> None:
    from host_tools.data.label_sets import label_set
    from host_tools.data.synthesize import synthesize_speech, synthesize_words
    from host_tools.locks import locked
    from kws_edge.labels import is_keyword

    if not args.minutes and not args.per_word:
        raise UsageError("--minutes 0 and --per-word 0 leave nothing to make")
    words = [label for label in label_set(args.labels) if is_keyword(label)]
    try:
        text = args.text.read_text() if args.text else None
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"--text {args.text}: not a readable text ({error})") from None
    with locked(args.output):
        if args.minutes > 0:
            folder = args.output / "speech"
            heard = synthesize_speech(folder, minutes=args.minutes, avoid=words, text=text, seed=args.seed)
            print(f"{heard:.1f} minutes of speech without {', '.join(words)} in {folder}")
        if args.per_word > 0:
            n = synthesize_words(args.output / "words", words, per_word=args.per_word, seed=args.seed)
            print(f"{counted(n, 'clip')} of {counted(len(words), 'word')} in {args.output / 'words'}")
