"""``kws-host train``: a run."""

from __future__ import annotations

import argparse
import dataclasses
import functools
from pathlib import Path

from host_tools.cli import options
from host_tools.training.presets import PRESETS
from kws_edge.cli.parser import output_path
from kws_edge.config import PRESETS as FRONTENDS
from kws_edge.errors import UsageError
from kws_edge.ranges import number, whole


def add(commands) -> None:
    parser = commands.add_parser(
        "train",
        help="train a network",
        description="Train a network and write a run folder: best.keras (lowest validation loss), last.keras,"
        " log.csv, config.json. The same command goes on where an interrupted run stopped.",
    )
    options.add_sources(parser, data="?")
    parser.add_argument(
        "--config", type=Path, metavar="RUN", help="options and data of this run, but for those that you give"
    )
    parser.add_argument("-o", "--output", type=output_path, required=True, metavar="RUN", help="folder of the run")
    parser.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        default="",
        help="other defaults: own, for a few words of your own, in 15 minutes",
    )
    parser.add_argument(
        "--split",
        choices=("official", "random"),
        default="official",
        help="by speaker, or 70/15/15 at random, which leaks speakers",
    )
    parser.add_argument("--seed", type=options.SEED, default=1, help="seed of weights, batches and augmentation")
    net = parser.add_argument_group("network")
    net.add_argument(
        "--model",
        default="residual",
        metavar="NAME|MODULE:FUNCTION",
        help="network: residual, micro, cnn_reference, or your own function(input_shape, classes) of a module in the"
        " current folder",
    )
    net.add_argument("--width", type=number(0.01, 100), default=1.0, help="factor on its channels")
    net.add_argument("--frontend", choices=FRONTENDS, default="logmel40", help="front-end preset")
    options.add_labels(net)
    pace = parser.add_argument_group("length")
    pace.add_argument("--epochs", type=whole(0, 10_000), default=40, help="0: only take over the weights of --start")
    pace.add_argument(
        "--minutes",
        type=number(0, 1_000_000),
        default=0.0,
        metavar="N",
        help="train for this long, features included, in place of a number of epochs",
    )
    pace.add_argument("--steps", type=options.STEPS, default=300, help="batches an epoch")
    pace.add_argument("--batch-size", type=whole(1, 16_384), default=160, help="examples a batch")
    pace.add_argument("--learning-rate", type=options.LEARNING_RATE, default=2e-3, help="its peak")
    pace.add_argument(
        "--words-first",
        type=options.SHARE,
        default=0.0,
        metavar="SHARE",
        help="share of the time in which, to begin with, all words with 50 recordings or more are told apart",
    )
    pace.add_argument("--keep", choices=("best", "last"), default="best", help="epoch whose weights are kept")
    batch = parser.add_argument_group("what a batch holds")
    batch.add_argument("--silence-share", type=options.SHARE, default=0.08, help="share of a batch that is noise")
    batch.add_argument("--unknown-share", type=options.SHARE, default=0.25, help="share of a batch that is unknown")
    batch.add_argument(
        "--speech-share", type=options.SHARE, default=0.3, help="share of unknown that is continuous speech"
    )
    batch.add_argument(
        "--hard-negatives",
        type=options.SHARE,
        default=0.0,
        help="share of unknown that are pairs of words and cut keywords",
    )
    batch.add_argument(
        "--mined",
        type=options.SHARE,
        default=0.0,
        help="share of noise and speech that is what the network hears keywords in",
    )
    batch.add_argument("--audio-copies", type=whole(0, 100), default=0, help="copies of each clip, varied as audio")
    batch.add_argument(
        "--variety",
        type=options.SHARE,
        default=0.0,
        help="share of noise and speech that gets another speed, pitch and level over time than recorded",
    )
    batch.add_argument(
        "--hiss",
        type=options.SHARE,
        default=0.0,
        help="share of noise that is the quietest part of recorded words, repeated",
    )
    varied = parser.add_argument_group("augmentation")
    varied.add_argument("--augmentation", type=number(0, 10), default=1.0, help="strength of the augmentation; 0: none")
    varied.add_argument(
        "--gated",
        type=options.SHARE,
        default=0.15,
        metavar="SHARE",
        help="share of examples that are digitally silent but for the word, before scaling by --augmentation",
    )
    varied.add_argument(
        "--reverberation", type=options.SHARE, default=0.0, help="share of examples that get a room's response"
    )
    varied.add_argument("--noise-share", type=options.SHARE, default=0.6, help="share of examples that get noise")
    varied.add_argument(
        "--snr",
        dest="snr_db",
        type=options.DB,
        nargs=2,
        default=(0.0, 40.0),
        metavar=("LOW", "HIGH"),
        help="range of its signal-to-noise ratio in dB",
    )
    varied.add_argument(
        "--babble", type=options.SHARE, default=0.0, help="share of the noise behind examples that is speech"
    )
    varied.add_argument(
        "--equalisation-db",
        type=number(0, 200),
        default=0.0,
        help="largest gain of a part of the bands, before scaling",
    )
    varied.add_argument(
        "--shift-ms", type=number(0, 10_000), default=100.0, help="largest shift, before scaling by --augmentation"
    )
    varied.add_argument(
        "--mixup", type=number(0, 100), default=0.0, help="parameter of mixup's Beta distribution; 0: none"
    )
    weights = parser.add_argument_group("weights to start from, and teachers")
    weights.add_argument(
        "--start", default="", metavar="RUN|FILE", help="weights to start from: Keras's or an INT8 model's"
    )
    weights.add_argument("--blend", default="", metavar="RUN", help="average the weights to start from with this run's")
    weights.add_argument("--blend-share", type=options.SHARE, default=0.5, help="share of --blend")
    weights.add_argument(
        "--log-prior",
        type=_log_prior,
        default="",
        metavar="LABEL=X[,...]",
        help="add X to the logit of LABEL to start with",
    )
    weights.add_argument("--teacher", default="", metavar="RUN[,RUN]", help="distil from this run, or these")
    weights.add_argument("--teacher-weight", type=options.SHARE, default=0.5, help="share of --teacher in the targets")
    parser.set_defaults(work=work, defaults=functools.partial(_defaults, parser))


def work(args: argparse.Namespace) -> None:
    shares = args.silence_share + args.unknown_share
    if shares >= 1:
        raise UsageError(f"--silence-share and --unknown-share leave nothing for keywords: together {shares:g}")
    if args.snr_db[0] > args.snr_db[1]:
        raise UsageError("--snr takes the lower bound first, got {:g} and {:g}".format(*args.snr_db))
    if args.blend and not args.start:
        raise UsageError("--blend averages with weights to start from: give --start, too")
    from host_tools.training.loop import TrainConfig, load_run, train

    names = TrainConfig.__dataclass_fields__
    config = TrainConfig(**{name: value for name, value in vars(args).items() if name in names})
    if args.data is None and args.config is None:
        raise UsageError("no data to train on: name a folder of clips, or a run to repeat with --config RUN")
    run = train(
        config, options.sources(args) if args.data else options.same_sources(args, load_run(args.config)), args.output
    )
    print(f"next: kws-host quantize {run.folder} -o {run.folder.name}.tflite")


def _defaults(parser: argparse.ArgumentParser, args: argparse.Namespace) -> bool:
    """Make the options of ``--config RUN``, and over them those of ``--preset``, the defaults; say whether there are
    any."""
    values: dict = {}
    if args.config is not None:
        from host_tools.training.loop import load_run

        values |= dataclasses.asdict(load_run(args.config).config)
    values |= PRESETS.get(args.preset, {})
    parser.set_defaults(**values)
    return bool(values)


def _log_prior(text: str) -> str:
    """A ``type`` for ``LABEL=X``, separated by commas, which training reads."""
    for part in filter(None, text.split(",")):
        number(-100, 100)(part.rpartition("=")[2])
    return text
