"""The command ``kws-host``."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from kws_edge.cli import guarded
from kws_edge.errors import RuntimeUnavailableError
from kws_edge.runtime import KERNELS

_DESCRIPTION = """\
Train, quantise and evaluate keyword models on a workstation. Needs: pip install 'kws-edge[host]'

  kws-host train DATA -o runs/first
  kws-host quantize runs/first -o first.tflite
  kws-host evaluate first.tflite --clips CLIPS

Exit status: 0 success, 1 an error that is explained in one line, 2 wrong usage, 130 interrupted.
"""


def _index(args: argparse.Namespace) -> None:
    from host_tools.dataset import count, index_clips

    clips = index_clips(args.data)
    words = {word: count(c.split for c in clips if c.word == word) for word in sorted({c.word for c in clips})}
    if args.json:
        print(json.dumps({"clips": len(clips), "splits": count(c.split for c in clips), "words": words}))
        return
    parts = ("training", "validation", "testing")
    print(f"{'word':<14}" + "".join(f"{part:>12}" for part in parts))
    for word, by_split in words.items():
        print(f"{word:<14}" + "".join(f"{by_split.get(part, 0):>12}" for part in parts))
    total = count(c.split for c in clips)
    print(f"{len(clips)} clips".ljust(14) + "".join(f"{total.get(part, 0):>12}" for part in parts))


def _train(args: argparse.Namespace) -> None:
    from host_tools.examples import Sources
    from host_tools.train import TrainConfig, train

    names = TrainConfig.__dataclass_fields__
    config = TrainConfig(**{name: value for name, value in vars(args).items() if name in names})
    sources = Sources(clips=args.data, features=args.features, speech=args.speech, noise=args.noise)
    run = train(config, sources, args.output)
    print(f"next: kws-host quantize {run.folder} -o {run.folder.name}.tflite")


def _quantize(args: argparse.Namespace) -> None:
    from host_tools.quantize import quantize_run
    from host_tools.train import load_run
    from kws_edge.config import DetectorConfig

    changes = {k: v for k in ("threshold", "smoothing_ms", "refractory_ms") if (v := getattr(args, k)) is not None}
    run = load_run(args.run)
    name = args.name or Path(args.output).stem
    metadata = quantize_run(
        run, args.output, name=name, n=args.samples, seed=args.seed, detector=DetectorConfig(**changes)
    )
    v = metadata.metrics["validation"]
    print(
        f"wrote {args.output}, {Path(args.output).stat().st_size:,} bytes; on {v['clips']} validation examples: "
        f"float {v['float_accuracy']:.2%}, INT8 {v['int8_accuracy']:.2%}, agreement {v['agreement']:.2%}"
    )


def _evaluate(args: argparse.Namespace) -> None:
    from host_tools.evaluate import evaluate_model, evaluate_run
    from kws_edge.files import write_atomically
    from kws_edge.model import Model

    if Path(args.model).is_dir():
        from host_tools.train import load_run

        results, kind = evaluate_run(load_run(args.model), args.clips), "float Keras"
    else:
        results, kind = evaluate_model(Model(args.model, kernels=args.kernels), args.clips), "INT8"
    values = {"model": str(args.model), "kind": kind, "folder": str(args.clips), **results.to_dict()}
    if args.output:
        write_atomically(args.output, lambda path: Path(path).write_text(json.dumps(values, indent=1) + "\n"))
    print(json.dumps(values) if args.json else f"{args.model} ({kind}) on {args.clips}\n{results.table()}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kws-host", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    index = commands.add_parser("index", help="count the clips of a Speech Commands folder by word and official split")
    index.add_argument("data", type=Path, metavar="DATA", help="folder laid out <word>/<speaker>_nohash_<n>.wav")
    index.add_argument("--json", action="store_true")
    index.set_defaults(work=_index)

    train = commands.add_parser(
        "train",
        help="train a network",
        description="Train a network and write a run folder: best.keras (lowest validation loss), last.keras,"
        " log.csv, config.json. The same command goes on where an interrupted run stopped.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    train.add_argument("data", type=Path, metavar="DATA", help="folder laid out <word>/<speaker>_nohash_<n>.wav")
    train.add_argument("-o", "--output", type=Path, required=True, metavar="RUN", help="folder of the run")
    train.add_argument("--features", type=Path, metavar="DIR", help="precomputed features.npy with manifest.tsv")
    train.add_argument("--speech", type=Path, metavar="DIR", help="speech without the keywords; half of it is used")
    train.add_argument("--noise", type=Path, metavar="DIR", help="noise without speech; half of it is used")
    train.add_argument("--model", default="residual", help="network")
    train.add_argument("--width", type=float, default=1.0, help="factor on its channels")
    train.add_argument("--front-end", default="logmel40", help="front-end preset")
    train.add_argument("--labels", default="commands12", help="label set")
    train.add_argument("--epochs", type=int, default=40)
    train.add_argument("--steps", type=int, default=300, help="batches an epoch")
    train.add_argument("--batch-size", type=int, default=160)
    train.add_argument("--learning-rate", type=float, default=2e-3, help="its peak")
    train.add_argument("--seed", type=int, default=1)
    train.set_defaults(work=_train)

    quantize = commands.add_parser(
        "quantize", help="quantise a run to an INT8 model file", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    quantize.add_argument("run", type=Path, metavar="RUN", help="folder of the run")
    quantize.add_argument("-o", "--output", required=True, metavar="FILE", help=".tflite to write")
    quantize.add_argument("--name", help="name that the file carries; default: the file's")
    quantize.add_argument("--samples", type=int, default=200, help="calibration examples")
    quantize.add_argument("--seed", type=int, default=0, help="choice of calibration examples")
    quantize.add_argument("--threshold", type=float, help="detection threshold that the file carries")
    quantize.add_argument("--smoothing-ms", type=float, help="smoothing that the file carries")
    quantize.add_argument("--refractory-ms", type=float, help="refractory time that the file carries")
    quantize.set_defaults(work=_quantize)

    evaluate = commands.add_parser("evaluate", help="accuracy of a model file, or of a run's float network, on clips")
    evaluate.add_argument("model", metavar="MODEL|RUN", help="shipped model, .tflite file, or folder of a run")
    evaluate.add_argument("--clips", type=Path, required=True, metavar="DIR", help="folder laid out <label>/*.wav")
    evaluate.add_argument("--kernels", choices=KERNELS, default="builtin", help="kernels of the runtime")
    evaluate.add_argument("--json", action="store_true", help="one JSON object")
    evaluate.add_argument("-o", "--output", type=Path, metavar="JSON", help="also write it to this file")
    evaluate.set_defaults(work=_evaluate)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    args = _parser().parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

    def work() -> None:
        try:
            args.work(args)
        except ImportError as error:
            raise RuntimeUnavailableError(f"{error}; the workstation tools need pip install 'kws-edge[host]'") from None

    return guarded("kws-host", work)
