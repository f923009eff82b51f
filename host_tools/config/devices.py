"""Options that say where a training computes, and how precisely. What it computes does not depend on them."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from dataclasses import dataclass
from typing import ClassVar

from host_tools.options import Section
from kws_edge.errors import ConfigError
from kws_edge.ranges import whole
from kws_edge.settings import Choice, Text, option
from kws_edge.text import shown

__all__ = ["DevicesConfig"]

_DEVICES = whole(1, 1024)
_PORT = whole(1, 65_535)


def _devices(text: str) -> None:
    """A ``type`` that raises an error unless `text` is ``all`` or a number of devices."""
    if text not in ("", "all"):
        try:
            _DEVICES(text)
        except ArgumentTypeError as error:
            raise ArgumentTypeError(f"must be all, or {str(error).removeprefix('must be ')}") from None


def _hosts(text: str) -> list[tuple[str, int]]:
    """A ``type`` that reads ``HOST:PORT`` or ``[IPV6]:PORT``, separated by commas."""
    found: list[tuple[str, int]] = []
    for one in text.split(",") if text else []:
        match = re.fullmatch(r"(?:\[([^\[\]\s]+)\]|([^:\[\]\s]+)):([0-9]{1,6})", one)
        if match is None:
            raise ArgumentTypeError(f"must be HOST:PORT for each machine, separated by commas, got {shown(one)}")
        found.append((match[1] or match[2], int(_PORT(match[3]))))
    if twice := [f"{host}:{port}" for host, port in found if found.count((host, port)) > 1]:
        raise ArgumentTypeError(f"must name each process once, got {shown(twice[0])} twice")
    return found


@dataclass(frozen=True, kw_only=True)
class DevicesConfig(Section):
    """The devices and machines that train together, and the precision of what they compute."""

    title: ClassVar[str] = "devices"

    devices: str = option(
        Text(_devices),
        "",
        metavar="all|N",
        help="devices of this machine that share each batch, by Keras on JAX; default: one, with --hosts all",
    )
    hosts: str = option(
        Text(_hosts),
        "",
        metavar="HOST:PORT,...",
        help="machines that share each batch, in the order of their ranks; each runs the same command",
    )
    rank: int | None = option(
        whole(0, 1023), None, metavar="N", help="this machine's place in --hosts, from 0 on; rank 0 writes the run"
    )
    precision: str = option(
        Choice("float32", "mixed"),
        "float32",
        help="mixed: bfloat16 between the network's first and last layer, on GPUs; weights are float32 in any case",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        n = len(self.addresses)
        if n == 1:
            raise ConfigError(f"DevicesConfig: hosts must be two machines or more, got only {self.hosts}")
        if n and self.rank is None:
            raise ConfigError(f"DevicesConfig: hosts need --rank, this machine's place among them, from 0 to {n - 1}")
        if not n and self.rank is not None:
            raise ConfigError(f"DevicesConfig: rank {self.rank} is a place in --hosts, which are not given")
        if n and self.rank is not None and self.rank >= n:
            raise ConfigError(f"DevicesConfig: rank must be from 0 to {n - 1}, as there are {n} hosts, got {self.rank}")

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each machine, in the order of their ranks."""
        return _hosts(self.hosts)

    @property
    def several(self) -> bool:
        """Whether devices share each batch."""
        return bool(self.devices or self.hosts)
