"""How processes on several machines find one another, and how each learns that another has ended.

Rank 0 listens at its place in the list of hosts. Every other rank connects to it, says what it is to train, and keeps
the connection until it is done. The kernel closes the connections of a process that ends, whatever ends it, and gives
up those to a machine that no longer answers. Messages are lines of JSON.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from host_tools.config import DevicesConfig
from host_tools.errors import DevicesError
from kws_edge.text import printable, shown

__all__ = ["WAIT_S", "Company", "call_roll"]

WAIT_S = 300.0
"""How long machines wait for one another at the beginning."""
_RETRY_S, _HELLO_S = 0.5, 30.0
_MOST = 1 << 20
"""Bytes of a message."""
_KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
_GOES_ON = "start all of them anew: the same commands go on from the last whole epoch"


class _Line:
    """A connection that carries lines of JSON."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self._got, self._ended = connection, b"", False
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE.items():
            if hasattr(socket, name):  # not on every system
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def send(self, **message: Any) -> None:
        """Send a message. If the other process is gone, that shows when its answer is read."""
        with contextlib.suppress(OSError):
            self.connection.sendall(json.dumps(message).encode() + b"\n")

    def read(self) -> dict[str, Any]:
        """The next message; empty if the other process is gone, or sends none."""
        try:
            while b"\n" not in self._got and len(self._got) < _MOST and (more := self.connection.recv(65536)):
                self._got += more
            line, _, self._got = self._got.partition(b"\n")
            message = json.loads(line)
        except (OSError, ValueError, RecursionError):
            return {}
        return message if isinstance(message, dict) else {}

    def gone(self) -> bool:
        """Whether the other process has closed the connection."""
        try:
            return self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True


class Company:
    """The processes that train together, as one of them sees them. If another one ends early, so does this one.

    Parameters
    ----------
    config : DevicesConfig
    lines : dict
        Connections by rank: those of rank 0 to all others, or that of another rank to rank 0.
    coordinator : int
        The port of rank 0 at which JAX's own coordinator shall listen.
    """

    def __init__(self, config: DevicesConfig, lines: dict[int, _Line], coordinator: int) -> None:
        host = config.addresses[0][0]
        self.coordinator = f"[{host}]:{coordinator}" if ":" in host else f"{host}:{coordinator}"
        self._config, self._lines = config, lines
        self._left = threading.Event()
        threading.Thread(target=self._watch, name="company", daemon=True).start()

    def leave(self, why: str = "") -> None:
        """Tell the others that this process ends: as it should, or because of an error."""
        for line in self._lines.values():
            line.send(**({"ended": why} if why else {"done": True}))
        self._left.set()

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            for rank, line in self._lines.items():
                selector.register(line.connection, selectors.EVENT_READ, (rank, line))
            while selector.get_map():
                for key, _ in selector.select():
                    rank, line = key.data
                    message = line.read()
                    if not message.get("done"):
                        self._end(rank, message)
                        return
                    selector.unregister(line.connection)
        self._left.wait()
        for line in self._lines.values():
            line.connection.close()

    def _end(self, rank: int, message: Mapping[str, Any]) -> None:
        """End this process, and those that hear of it from this one, because another one has ended.

        Nothing can be waited for: a computation that needs the other one may never come to its end.
        """
        why = message.get("ended", "it was ended from outside, or its machine does not answer")
        lost = message.get("lost", f"{_named(self._config, rank)} has ended: {why}; {_GOES_ON}")
        for line in self._lines.values():
            line.send(lost=lost)
        print(f"kws-host: {printable(str(lost))}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(1)


def call_roll(
    config: DevicesConfig, asked: Mapping[str, Any], *, say: Callable[[str], None], wait_s: float = WAIT_S
) -> Company:
    """Wait until all processes are there and ask for the same training.

    Parameters
    ----------
    config : DevicesConfig
        With hosts.
    asked : mapping
        What every process must ask for alike, by name, JSON-ready.
    say : callable
        Takes lines of progress.
    wait_s : float

    Raises
    ------
    DevicesError
        If a process does not come in time, or asks for another training.
    """
    _check_place(config)
    deadline = time.monotonic() + wait_s
    if config.rank:
        return _come(config, asked, deadline, wait_s)
    return _Roll(config, asked, say).call(deadline, wait_s)


def _check_place(config: DevicesConfig) -> None:
    """Raise an error if the name of a host is unknown, or this machine is not the one at its rank."""
    for rank, (host, port) in enumerate(config.addresses):
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise DevicesError(f"--hosts: {shown(host)}: no such host ({error.strerror or error})") from None
        if rank == config.rank and not any(_is_here(family, place) for family, _, _, _, place in found):
            raise DevicesError(
                f"--rank {rank}: {host} is not this machine; give the place of this machine in --hosts {config.hosts}"
            )


def _is_here(family: int, place: tuple) -> bool:
    """Whether an address is one of this machine."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((place[0], 0, *place[2:]))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
        return True


def _named(config: DevicesConfig, rank: int) -> str:
    host, port = config.addresses[rank]
    return f"rank {rank} ({host}:{port})"


def _come(config: DevicesConfig, asked: Mapping[str, Any], deadline: float, wait_s: float) -> Company:
    """Connect to rank 0."""
    while True:
        with contextlib.suppress(OSError):
            line = _Line(socket.create_connection(config.addresses[0], timeout=5))
            break
        if time.monotonic() > deadline:
            raise DevicesError(
                f"{_named(config, 0)} has not answered for {wait_s:g} s: start the same command there with --rank 0,"
                " and let this port through its firewall"
            )
        time.sleep(_RETRY_S)
    line.connection.settimeout(None)  # rank 0 says when time is over
    line.send(rank=config.rank, hosts=config.hosts, asked=asked)
    answer = line.read()
    if isinstance(answer.get("coordinator"), int):
        return Company(config, {0: line}, answer["coordinator"])
    line.connection.close()
    ended = f"{_named(config, 0)} ended before all were there; start all of them anew"
    raise DevicesError(printable(str(answer.get("error", ended))))


class _Roll:
    """Rank 0's list of who is there."""

    def __init__(self, config: DevicesConfig, asked: Mapping[str, Any], say: Callable[[str], None]) -> None:
        self.config, self.asked, self.say = config, json.loads(json.dumps(asked)), say
        self.lines: dict[int, _Line] = {}

    @property
    def missing(self) -> list[int]:
        return [rank for rank in range(1, len(self.config.addresses)) if rank not in self.lines]

    def call(self, deadline: float, wait_s: float) -> Company:
        host, port = self.config.addresses[0]
        try:
            server = _server(port)
        except OSError as error:
            raise DevicesError(f"{host}:{port}: {error.strerror}; name another port in --hosts, everywhere") from None
        with server:
            while self.missing:
                self.say(f"waiting for {', '.join(_named(self.config, rank) for rank in self.missing)}")
                try:
                    server.settimeout(max(0.0, deadline - time.monotonic()) or 1e-3)
                    connection, _ = server.accept()
                except OSError:
                    self._give_up(wait_s)
                self._admit(_Line(connection))
        coordinator = _free_port()
        for line in self.lines.values():
            line.send(coordinator=coordinator)
        return Company(self.config, self.lines, coordinator)

    def _admit(self, line: _Line) -> None:
        """Take a process in, or tell it why not. What is no such process is ignored."""
        line.connection.settimeout(_HELLO_S)
        hello = line.read()
        line.connection.settimeout(None)
        for rank in [rank for rank, other in self.lines.items() if other.gone()]:
            self.lines.pop(rank).connection.close()
        if error := self._refusal(hello):
            line.send(error=error)
        elif hello:
            self.lines[hello["rank"]] = line
            return
        line.connection.close()

    def _refusal(self, hello: Mapping[str, Any]) -> str:
        """Why a process cannot take part; empty if it can."""
        if not hello:
            return ""
        rank, hosts, asked = hello.get("rank"), hello.get("hosts"), hello.get("asked")
        if hosts != self.config.hosts:
            return f"--hosts {hosts}: rank 0 has --hosts {self.config.hosts}; give all of them the same"
        if rank in self.lines:
            return f"--rank {rank}: is there already; give each machine its own rank"
        if rank not in self.missing or not isinstance(asked, dict):
            return f"--rank {shown(rank)}: is no rank of another process"
        names = [*self.asked, *(name for name in asked if name not in self.asked)]
        other = [name for name in names if asked.get(name) != self.asked.get(name)]
        told = (f"{name} {_written(asked.get(name))}, not {_written(self.asked.get(name))}" for name in other)
        return f"rank {rank} differs from rank 0: {'; '.join(told)}; give all of them the same" if other else ""

    def _give_up(self, wait_s: float) -> None:
        names = ", ".join(_named(self.config, rank) for rank in self.missing)
        error = (
            f"{names} did not come within {wait_s:g} s: start the same command there, each with its own --rank, and let"
            f" port {self.config.addresses[0][1]} of this machine through its firewall"
        )
        for line in self.lines.values():
            line.send(error=error)
            line.connection.close()
        raise DevicesError(error)


def _written(value: Any) -> str:
    return shown(value) if isinstance(value, str) else json.dumps(value)


def _free_port() -> int:
    with _server(0) as server:
        port: int = server.getsockname()[1]
        return port


def _server(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))
