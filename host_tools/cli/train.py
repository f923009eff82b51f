"""``kws-host train``: a run."""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import kws_edge
from host_tools.config import DevicesConfig, StageConfig
from host_tools.options import Section, add_options
from host_tools.training.presets import PRESETS
from kws_edge.cli.parser import output_path
from kws_edge.errors import ConfigError, UsageError

S = TypeVar("S", bound=Section)


def add(commands) -> None:
    parser = commands.add_parser(
        "train",
        help="train a network",
        description="Train a network and write a run folder: best.keras (lowest validation loss), last.keras,"
        " log.csv, config.json. The same command goes on where an interrupted run stopped. With --config RUN -o RUN"
        " and more --epochs, it goes on with a finished run.",
    )
    parser.add_argument(
        "--config", type=Path, metavar="RUN", help="take options and data from this run, except those that you give"
    )
    parser.add_argument("-o", "--output", type=output_path, required=True, metavar="RUN", help="folder of the run")
    parser.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        default="",
        help="other defaults: own, for a few words of your own, in 15 minutes; stream, for a network with state;"
        " microwakeword, for one word of ESPHome's micro_wake_word",
    )
    add_options(parser, StageConfig)
    add_options(parser, DevicesConfig)
    parser.set_defaults(work=work, check=training, defaults=functools.partial(_defaults, parser))


def work(args: argparse.Namespace) -> None:
    if args.config is not None:
        from host_tools.training.run import load_run

        repeated = load_run(args.config)
        if args.epochs != repeated.config.optim.epochs:
            args.lengthened = ()  # which says how that run came to its length
    config, places = training(args), _section(DevicesConfig, vars(args))
    from host_tools.devices.join import joined
    from host_tools.training.continuation import lengthened
    from host_tools.training.loop import train

    if args.config is not None and os.path.realpath(args.config) == os.path.realpath(args.output):
        config = lengthened(config, repeated)
    say: Callable[[str], None] = print
    if places.rank:
        print(f"rank {places.rank}: trains for rank 0, which tells how it goes and writes {args.output}")
        say = _silent
    with joined(places, {**config.settings(), "kws-edge": kws_edge.__version__}, say=say) as devices:
        run = train(config, args.output, devices=devices, say=say)
    say(f"next: kws-host quantize {run.folder} -o {run.folder.name}.tflite")


def _silent(line: str) -> None:
    """Say nothing: rank 0 tells how the training goes."""


def training(args: argparse.Namespace) -> StageConfig:
    """The training that options ask for.

    Raises
    ------
    UsageError
        If they contradict one another, or name no data.
    """
    if args.clips is None and args.features is None:
        raise UsageError(
            "no data to train on: name a folder of clips, --features of kws-host features, or a run to repeat with"
            " --config RUN"
        )
    from host_tools.data.features import default_cache

    return _section(StageConfig, {**vars(args), "cache": args.cache or default_cache()})


def _section(kind: type[S], values: Mapping[str, Any]) -> S:
    """A section with the values of the command line."""
    try:
        return kind.from_options(values)
    except ConfigError as error:
        raise UsageError(str(error).partition(": ")[2]) from None  # without the name of the class


def _defaults(parser: argparse.ArgumentParser, args: argparse.Namespace) -> bool:
    """Make the options of ``--config RUN`` the defaults, and then those of ``--preset``.

    Returns whether there are any.
    """
    values: dict[str, Any] = {}
    if args.config is not None:
        from host_tools.training.run import load_run

        values |= load_run(args.config).config.values()
    values |= PRESETS.get(args.preset, {})
    parser.set_defaults(**values)
    return bool(values)
