"""The command ``kws-firmware``."""

from __future__ import annotations

import argparse
import dataclasses
import json

from firmware_export.arena import measure_arena
from firmware_export.c_array import write_c_array
from kws_edge.cli import guarded
from kws_edge.model import shipped_models


def _c_array(args: argparse.Namespace) -> None:
    for path in write_c_array(shipped_models().get(args.model, args.model), args.output):
        print(f"wrote {path}")


def _arena(args: argparse.Namespace) -> None:
    arena = measure_arena(shipped_models().get(args.model, args.model))
    if args.json:
        print(json.dumps(dataclasses.asdict(arena)))
        return
    print(f"arena {arena.total:,} bytes: tensors {arena.tensors:,}, persistent {arena.persistent:,}")
    print(f"flatbuffer {arena.flatbuffer:,} bytes, {arena.macs:,} multiply-accumulates")


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="kws-firmware", description="Export models for microcontrollers.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    array = commands.add_parser(
        "c-array",
        help="write a model as a C array",
        description="Write any .tflite as kws_model_data.h and kws_model_data.cc, aligned for TFLite Micro.",
    )
    array.add_argument("model", metavar="MODEL", help="a shipped model or a .tflite file")
    array.add_argument("-o", "--output", required=True, metavar="DIR", help="folder to write to")
    array.set_defaults(work=_c_array)
    arena = commands.add_parser(
        "arena",
        help="memory that TFLite Micro needs",
        description="Load a .tflite in TFLite Micro's own interpreter (pip install --pre tflite-micro) and print the"
        " arena that it allocates.",
    )
    arena.add_argument("model", metavar="MODEL", help="a shipped model or a .tflite file")
    arena.add_argument("--json", action="store_true", help="one JSON object")
    arena.set_defaults(work=_arena)
    args = parser.parse_args(argv)
    return guarded("kws-firmware", lambda: args.work(args))
