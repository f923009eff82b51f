"""``kws-edge devices``: list the microphones."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING

from kws_edge.audio.devices import input_devices
from kws_edge.errors import AudioError
from kws_edge.text import printable

if TYPE_CHECKING:
    from kws_edge.cli.parser import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser("devices", help="list microphones", description="List the devices that can record.")
    parser.add_argument("--json", action="store_true", help="one JSON object per device and line")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    devices = input_devices()
    if not devices:
        raise AudioError("no device that can record; plug in a microphone and check `arecord -l`")
    for device in devices:
        if args.json:
            print(json.dumps(dataclasses.asdict(device)))
        else:
            mark, number = "*" if device.default else " ", "-" if device.index is None else device.index
            text = f"{mark}{number:>3}  {device.name}  ({device.host_api}, {device.channels} in, {device.rate} Hz)"
            print(printable(f"{text}  {device.description}").rstrip())
    return 0
