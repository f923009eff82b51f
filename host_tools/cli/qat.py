"""``kws-host qat``: a run that loses nothing when rounded."""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

from host_tools.cli.train import training
from host_tools.config import STREAM_NETWORKS, DataConfig, StageConfig
from host_tools.options import add_options
from host_tools.training.presets import QAT
from kws_edge.cli.parser import output_path

_OPTIONS = {*DataConfig.options(), "epochs", "steps", "learning_rate", "seed"} - {"split"}


def add(commands) -> None:
    parser = commands.add_parser(
        "qat",
        help="fine-tune a run with fake quantisation",
        description="Fine-tune a run's best weights so that they lose nothing when rounded. Batch norm is folded,"
        " quantisation is simulated. A float network of clips is the teacher. Writes a run folder, which quantize,"
        " evaluate and report take. Data that you do not name are those of the run.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of the float run")
    parser.add_argument(
        "-o", "--output", type=output_path, required=True, metavar="QAT_RUN", help="folder of the new run"
    )
    add_options(parser, StageConfig, only=_OPTIONS, defaults=QAT)
    parser.set_defaults(work=work, defaults=functools.partial(_defaults, parser))


def work(args: argparse.Namespace) -> None:
    from host_tools.training.loop import train

    run = train(training(args), args.output)
    print(f"next: kws-host quantize {run.folder} -o {run.folder.name}.tflite")


def _defaults(parser: argparse.ArgumentParser, args: argparse.Namespace) -> bool:
    """Make the options of the float run the defaults, except those that fine-tuning sets itself."""
    from host_tools.training.run import load_run

    values = load_run(args.run).config.values()
    teacher = "" if values["model"] in STREAM_NETWORKS else str(args.run)
    parser.set_defaults(**{**values, **QAT, "qat": str(args.run), "teacher": teacher})
    return True
