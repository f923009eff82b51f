"""``kws-host qat``: a run that loses nothing when rounded."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from host_tools.cli import options
from kws_edge.cli.parser import output_path
from kws_edge.ranges import whole


def add(commands) -> None:
    parser = commands.add_parser(
        "qat",
        help="fine-tune a run with fake quantisation",
        description="Fine-tune a run's best weights so that they lose nothing when rounded: batch norm folded, fake"
        " quantisation, the float network as teacher. Writes a run folder, which quantize, evaluate and report take.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of the float run")
    options.add_sources(parser, data="?", about="; default: all data that the run was trained on")
    parser.add_argument(
        "-o", "--output", type=output_path, required=True, metavar="QAT_RUN", help="folder of the new run"
    )
    parser.add_argument("--epochs", type=whole(0, 10_000), default=2, help="epochs of fine-tuning")
    parser.add_argument("--steps", type=options.STEPS, default=150, help="batches an epoch")
    parser.add_argument("--learning-rate", type=options.LEARNING_RATE, default=2e-4, help="its peak")
    parser.add_argument("--seed", type=options.SEED, default=1, help="seed of batches and augmentation")
    parser.set_defaults(work=work)


def work(args: argparse.Namespace) -> None:
    from host_tools.training.loop import load_run, train

    parent = load_run(args.run)
    config = dataclasses.replace(
        parent.config,
        **{name: getattr(args, name) for name in ("epochs", "steps", "learning_rate", "seed")},
        qat=str(args.run),
        keep="best",
        blend="",
        log_prior="",
        minutes=0.0,
        start="",
        teacher=str(args.run),
        weight_decay=0.0,
        words_first=0.0,
    )
    run = train(config, options.sources(args) if args.data else options.same_sources(args, parent), args.output)
    print(f"next: kws-host quantize {run.folder} -o {run.folder.name}.tflite")
