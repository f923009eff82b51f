"""The option that names where work runs: this machine, or a Ray cluster."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError

from kws_edge.text import shown

__all__ = ["LOCAL", "add_on", "place"]

LOCAL = "local"
_ADDRESS = re.compile(r"(ray://)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
_PORT = 10001
"""Port at which the head of a Ray cluster takes clients."""


def place(text: str) -> str:
    """A ``type`` of argparse that reads ``local``, ``ray://HEAD[:PORT]`` or ``HEAD:PORT``."""
    if text == LOCAL:
        return text
    found = _ADDRESS.fullmatch(text)
    if not found or not (found[1] or found[3]) or (found[3] and int(found[3][1:]) > 65535):
        raise ArgumentTypeError(f"must be local, ray://HEAD or HEAD:PORT of a Ray cluster, got {shown(text)}")
    return text if found[3] else f"{text}:{_PORT}"


def add_on(parser: ArgumentParser, what: str) -> None:
    """Add the option ``--on`` to a command's parser.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    what : str
        Names the work in help.
    """
    parser.add_argument(
        "--on",
        type=place,
        default=LOCAL,
        metavar="local|ray://HEAD|HEAD:PORT",
        help=f"where {what}: on this machine, or on a Ray cluster; HEAD:PORT joins it from one of its machines",
    )
