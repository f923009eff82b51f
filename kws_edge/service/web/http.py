"""What the web page is asked, and what it answers."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

__all__ = ["HttpError", "Page", "Request", "Response", "Stream", "client_of", "is_loopback"]

MAX_HEAD = 8 * 1024
"""Bytes of a request's line and headers, to the next read."""
MAX_UNREAD = 64 * 1024
"""Bytes that a client of a stream may leave unread before it is dropped."""


class HttpError(Exception):
    """A request that is refused, with the status and the text of the answer."""

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.headers = status, text, headers or {}


@dataclass(frozen=True)
class Request:
    """A request within the limits."""

    method: str
    path: str
    """Path as it was sent, without the query. Nothing in it is decoded."""
    query: dict[str, str]
    headers: dict[str, str]
    """Names are in lower case. The values of a repeated header are joined by commas."""
    body: bytes
    address: str
    """IP address of the client."""


class Stream:
    """The body of an answer that goes on. A client that does not read it is dropped.

    Parameters
    ----------
    framed : callable
        Makes what is sent of a part of the body.
    writer : asyncio.StreamWriter
    """

    def __init__(self, framed: Callable[[bytes], bytes], writer: asyncio.StreamWriter) -> None:
        self._framed, self._writer = framed, writer
        self.dropped = False
        """Whether the client was dropped because it does not read."""

    def send(self, data: bytes) -> None:
        """Send a part. This never waits."""
        if self._writer.is_closing():
            return
        self._writer.write(self._framed(data))
        if self._writer.transport.get_write_buffer_size() > MAX_UNREAD:
            self.dropped = True
            self._writer.transport.abort()


@dataclass
class Response:
    """An answer."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    stream: Callable[[Stream], Awaitable[None]] | None = None
    """Sends the body in parts. The answer ends when it returns, or when the client goes away."""


Page = Callable[[Request], Awaitable[Response]]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def client_of(address: str) -> str:
    """What tells a client apart: its address, or by IPv6 its network, of whose addresses it may take any."""
    where = ipaddress.ip_address(address.partition("%")[0])
    if where.version == 6 and not where.is_loopback:
        where = ipaddress.ip_network((where, 64), strict=False).network_address
    return str(where)
