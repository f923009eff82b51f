"""The command ``kws-firmware``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from firmware_export.arena import ARENA_MARGIN, by_kernels, measure_arena
from firmware_export.boards import describe_boards
from firmware_export.c_array import write_c_array
from firmware_export.chain import boards_for, run_chain
from firmware_export.export import Export, prepare
from firmware_export.kernels import KERNELS
from firmware_export.manifest import write
from firmware_export.names import DEFAULT_PREFIX
from firmware_export.parity import describe
from firmware_export.report import board_lines, render, report, speed_lines
from firmware_export.speed import on_board
from firmware_export.target import DEFAULT_TARGET, TARGETS
from firmware_export.taught import NO_TAUGHT, Taught, taught_table
from kws_edge.cli.options import add_detector, add_foreign, detector_config, frontend, labels
from kws_edge.cli.parser import STATUSES, Parser, output_path
from kws_edge.cli.taught import load_taught
from kws_edge.errors import UsageError
from kws_edge.files import write_atomically
from kws_edge.model.model import Model
from kws_edge.ranges import number, whole
from kws_edge.teach.words import TaughtWords


def _taught(args: argparse.Namespace, model: Model) -> TaughtWords:
    """The words that --taught names, or those that this user has taught."""
    words = load_taught(model, args.taught or None)
    if not words:
        raise UsageError(f"--taught: {words.path} has no words; kws-edge teach WORD teaches one")
    return words


def _prepare(args: argparse.Namespace, *, target: str = DEFAULT_TARGET, prefix: str = DEFAULT_PREFIX) -> Export:
    if args.with_tflm:
        boards_for(args.with_tflm, args.kernels)  # check before the long work
    model = Model(args.model, labels=labels(args.labels), frontend_config=frontend(args.frontend), kernels="builtin")
    return prepare(
        model,
        detector_config=detector_config(args, model),
        recording=args.golden,
        arena_size=args.arena,
        kernels=args.kernels,
        exact=args.exact,
        target=target,
        prefix=prefix,
        taught=NO_TAUGHT if args.taught is None else Taught(_taught(args, model)),
        progress=_progress,
    )


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        print(f"{line} ...", file=sys.stderr)


def _run_chain(args: argparse.Namespace, export: Export, folder: Path) -> list[dict]:
    boards, golden = boards_for(args.with_tflm, args.kernels), export.summary["flash"]["golden"]
    return run_chain(folder, args.with_tflm, boards, golden=golden, progress=_progress)


def _export(args: argparse.Namespace) -> None:
    if args.with_tflm and args.target != DEFAULT_TARGET:
        raise UsageError(f"--with-tflm builds the example of --for {DEFAULT_TARGET}; leave it out for {args.target}")
    export = _prepare(args, target=args.target, prefix=args.prefix)
    write(export, args.output, force=args.force)
    boards = {"boards": _run_chain(args, export, args.output)} if args.with_tflm else {}
    if args.json:
        print(json.dumps(export.summary | _at_mhz(export, args) | boards))
        return
    arena = export.summary["arena"]
    print(f"wrote {len(export.files)} files to {args.output}: begin with {args.output / 'README.md'}")
    print(f"arena {arena['size']:,} bytes, for the kernels {arena['kernels']}; sizes in full: kws-firmware report")
    print(describe(export.summary["parity"]))
    for line in [*speed_lines(export.summary | _at_mhz(export, args)), *board_lines(boards)]:
        print(line)


def _at_mhz(export: Export, args: argparse.Namespace) -> dict[str, Any]:
    """The values that ``--mhz`` adds to the summary."""
    if args.mhz is None:
        return {}
    return {"at_mhz": on_board(export.summary["speed"], mhz=args.mhz, step_ms=export.summary["step_ms"])}


def _write_taught(args: argparse.Namespace) -> None:
    words = load_taught(Model(args.model), args.taught or None)
    table = taught_table(words)
    write_atomically(args.output, table)
    print(f"wrote {args.output}: {', '.join(words) or 'no words'}; {len(table):,} bytes for kws_app_set_words")


def _report(args: argparse.Namespace) -> None:
    export = _prepare(args)
    values = report(export) | _at_mhz(export, args)
    if args.with_tflm:
        with tempfile.TemporaryDirectory() as folder:
            write(export, folder)
            values["boards"] = _run_chain(args, export, Path(folder))
    print(json.dumps(values) if args.json else render(values))


def _boards(args: argparse.Namespace) -> None:
    export = _prepare(args)
    if args.json:
        print(json.dumps(export.summary["board_estimates"]))
        return
    print(f"{export.summary['model']}, an inference each {export.summary['step_ms']:g} ms; all figures are estimates")
    print("\n".join(describe_boards(export.summary["board_estimates"])))
    print("CPU is the share of one core. RAM has the arena, the streams' state, 512 ms of samples and the stack.")


def _c_array(args: argparse.Namespace) -> None:
    for path in write_c_array(args.model, args.output, prefix=args.prefix):
        print(f"wrote {path}")


def _arena(args: argparse.Namespace) -> None:
    arena = measure_arena(args.model)
    if args.json:
        print(json.dumps(dataclasses.asdict(arena)))
        return
    print(f"arena {arena.total:,} bytes: tensors {arena.tensors:,}, persistent {arena.persistent:,}")
    print(f"by kernels: {by_kernels(arena.kernels)}")
    print(f"flatbuffer {arena.flatbuffer:,} bytes, {arena.macs:,} multiply-accumulates")


def _path(text: str) -> Path:
    """An argparse ``type`` for paths. It refuses an empty path, which would mean the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("'' names no file or folder")
    return Path(text)


def _add_model_options(parser: Parser) -> None:
    add_foreign(parser)
    add_detector(parser)


def _add_taught(parser: Parser, about: str) -> None:
    parser.add_argument(
        "--taught", nargs="?", const="", metavar="FILE", help=f"{about}; FILE: those of this file; default: your own"
    )


def _add_prepare(parser: Parser) -> None:
    parser.add_argument(
        "--golden",
        type=_path,
        metavar="FILE",
        help="recording with keywords that the board's self-test replays, two seconds or longer, of which the first "
        "minute counts; default: the bundled stream of synthetic speech",
    )
    parser.add_argument(
        "--arena",
        type=whole(1024, 2**30),
        metavar="BYTES",
        help="size of the arena; default: the memory that TFLite Micro needs for the model with --kernels, plus "
        f"{100 * ARENA_MARGIN:.0f} %%, in whole KiB",
    )
    parser.add_argument(
        "--kernels",
        choices=KERNELS,
        help="kernels that you build TFLite Micro with, which decide the size of the arena: cmsis-nn for Arm cores, "
        "cmsis-nn-mve for Arm cores with vectors (Cortex-M52, M55, M85), esp-nn for an ESP32-S3; default: those with "
        "the largest arena",
    )
    parser.add_argument(
        "--exact",
        action="store_true",
        help="refuse a model if a posterior of TFLite Micro differs from LiteRT's; default: refuse if answers differ",
    )
    _add_taught(parser, "hear the words, too, that kws-edge teach taught this model")
    parser.add_argument(
        "--mhz",
        type=number(1, 10_000),
        metavar="N",
        help="clock of the board's core: estimate whether the core keeps up, and with which --step-ms it would",
    )
    parser.add_argument(
        "--with-tflm",
        type=_path,
        metavar="PATH",
        help="a checkout of TensorFlow Lite Micro: build the firmware with it, and run the whole self-test on emulated "
        "Cortex-M4 and M55 cores, with reference kernels and CMSIS-NN's, or only with --kernels",
    )
    _add_model_options(parser)


def make_parser() -> Parser:
    parser = Parser(
        prog="kws-firmware",
        description="Export models for microcontrollers.",
        epilog=f"{STATUSES}. kws-firmware COMMAND --help describes a command.",
    )
    commands = parser.add_commands()

    def add(name: str, work: Callable[[argparse.Namespace], None], about: str, description: str) -> Parser:
        command = commands.add_parser(name, help=about, description=description)
        command.add_argument("model", metavar="MODEL", help="a shipped model or a .tflite file")
        command.set_defaults(work=work)
        return command

    export = add(
        "export",
        _export,
        "write the firmware of a model",
        "Write a folder with the model, its front end and detector in C99, an application and a self-test, with the"
        " build files and an example for one system (--for)."
        " TFLite Micro's own interpreter (pip install --pre tflite-micro, x86-64 Linux) computes what the self-test"
        " expects. A model that answers otherwise there than on the host is refused. A network with state is written"
        " for the hop of --step-ms.",
    )
    export.add_argument(
        "--for",
        dest="target",
        choices=TARGETS,
        default=DEFAULT_TARGET,
        help="system that builds the firmware: "
        + "; ".join(f"{name}: {target.about}" for name, target in TARGETS.items())
        + f"; default {DEFAULT_TARGET}",
    )
    export.add_argument("--force", action="store_true", help="overwrite files that were changed since their export")
    _add_prepare(export)
    sizes = add(
        "report",
        _report,
        "print what the firmware of a model takes",
        "Print flash, RAM, arena, operators and multiply-accumulates; the code's size where arm-none-eabi-gcc is"
        " installed, and an estimate for an Ethos-U NPU where ethos-u-vela is.",
    )
    _add_prepare(sizes)
    boards = add(
        "boards",
        _boards,
        "estimate what a model takes of common boards",
        "Estimate the share of the processor and the RAM that a model takes on an ESP32, ESP32-S3, RP2040, RP2350,"
        " nRF52840, STM32F4 and STM32H7. The estimate comes from the model's operators and from instructions that were"
        " counted in QEMU. Measure on your board: the self-test prints its speed.",
    )
    _add_model_options(boards)
    boards.set_defaults(taught=None, with_tflm=None, kernels=None, golden=None, arena=None, exact=False)
    array = add(
        "c-array",
        _c_array,
        "write a model as a C array",
        "Write any .tflite as kws_model_data.h and kws_model_data.cc, aligned for TFLite Micro.",
    )
    arena = add(
        "arena",
        _arena,
        "memory that TFLite Micro needs",
        "Load a .tflite in TFLite Micro's own interpreter (pip install --pre tflite-micro, x86-64 Linux) and print the"
        " arena that it allocates.",
    )
    words = add(
        "taught",
        _write_taught,
        "write taught words as a table for flash",
        "Write the words that kws-edge teach taught this model as a table. A firmware of export --taught takes the"
        " table in place of its own: write it to flash, and give kws_app_set_words its address.",
    )
    _add_taught(words, "the words")
    words.add_argument("-o", "--output", required=True, type=output_path, metavar="FILE", help="file to write")
    for command in (export, array):
        command.add_argument(
            "-o", "--output", required=True, type=output_path, metavar="DIR", help="folder to write to"
        )
        command.add_argument(
            "--prefix",
            default=DEFAULT_PREFIX,
            metavar="NAME",
            help="prefix of the names of all files, functions and macros; give each model of a program its own; "
            f"default {DEFAULT_PREFIX}",
        )
    for command in (export, sizes, boards, arena):
        command.add_argument("--json", action="store_true", help="one JSON object")
    return parser


def main(argv: Sequence[str]) -> None:
    """Run the command; raise an exception on any error."""
    args = make_parser().parse_args(argv)
    args.work(args)
