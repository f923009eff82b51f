"""``kws-host encoder``: train what lets a device learn words from a few recordings."""

from __future__ import annotations

import argparse
from pathlib import Path

from kws_edge.cli.parser import output_path
from kws_edge.ranges import whole


def add(commands) -> None:
    parser = commands.add_parser(
        "encoder",
        help="train the encoder with which `kws-edge teach` learns words",
        description="Train an encoder for a model of clips, which itself stays as it is. The more different words the "
        "clips have, the better it tells words that it never heard. kws-edge teach finds it beside the model's file, "
        "under the same name with the ending .encoder.npz.",
    )
    parser.add_argument("model", metavar="MODEL", help="shipped model or .tflite file of a network of clips")
    parser.add_argument("-o", "--output", type=output_path, required=True, metavar="FILE", help=".encoder.npz to write")
    parser.add_argument("--features", type=Path, metavar="DIR", help="precomputed features of clips")
    parser.add_argument(
        "--words", type=Path, nargs="+", default=[], metavar="DIR", help="clips, laid out as Speech Commands is"
    )
    parser.add_argument("--speech", type=Path, required=True, metavar="DIR", help="running speech")
    parser.add_argument("--noise", type=Path, required=True, metavar="DIR", help="noise")
    parser.add_argument("--without", default="", metavar="A,B,...", help="words that do not train, to measure with")
    parser.add_argument("--copies", type=whole(1, 20), default=3, help="variations of each clip")
    parser.add_argument("--epochs", type=whole(1, 1000), default=30, help="times that each clip trains")
    parser.add_argument("--seed", type=whole(0, 2**31 - 1), default=1, help="seed of variations and weights")
    parser.set_defaults(work=work)


def work(args: argparse.Namespace) -> None:
    from host_tools.training.encoder import read_examples, train_encoder
    from kws_edge.model.model import Model

    model, without = Model(args.model), sorted(filter(None, args.without.split(",")))
    examples = read_examples(
        model,
        features=args.features,
        words=args.words,
        speech=args.speech,
        noise=args.noise,
        without=without,
        seed=args.seed,
    )
    n_words = len(set(examples.words))
    made = {
        "model": model.stem,
        "words": n_words,
        "clips": len(examples.words),
        "without": without,
        "copies": args.copies,
        "epochs": args.epochs,
        "seed": args.seed,
    }
    train_encoder(model, examples, args.output, copies=args.copies, epochs=args.epochs, seed=args.seed, about=made)
    size = args.output.stat().st_size
    print(f"wrote {args.output}, {size:,} bytes, of {len(examples.words):,} clips of {n_words:,} words")
