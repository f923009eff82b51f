"""The web page. Its server has an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from kws_edge.errors import ConfigError, extra
from kws_edge.ranges import whole
from kws_edge.service.events import Detected, Event, Reloaded, Scores, Telemetry
from kws_edge.service.outputs.base import Output, OutputError
from kws_edge.service.section import FileName, OutputSection, read_host
from kws_edge.settings import Text, Texts, option

if TYPE_CHECKING:
    from kws_edge.service.commands import Commands
    from kws_edge.service.web.site import Site

__all__ = ["SECTION", "Web"]

_CLOSE_S = 5.0
_AHEAD, _HANG_S = 8, 30.0
"""Events that wait in the event loop, which itself has no bound, and the longest time that they may."""


@dataclass(frozen=True, kw_only=True)
class WebSection(OutputSection):
    """The web page. Without ``host``, only this machine reaches it, and nobody has to log in."""

    section: ClassVar[str] = "web"

    host: str = option(
        Text(read_host), "127.0.0.1", help="address to listen at; 0.0.0.0: all of this machine, with a log-in"
    )
    port: int = option(whole(0, 65_535), 8597, help="port to listen at; 0: any that is free")
    hosts: tuple[str, ...] = option(
        Texts(), (), help="other names of this machine, as of a proxy; with such a name, one has to log in"
    )
    token: str | None = option(
        FileName(), None, help="file that keeps the hash of the token; default: in the service's state folder"
    )

    def check(self) -> None:
        if importlib.util.find_spec("h11") is None:
            raise ConfigError(f"{self.label()} needs h11: {extra('web')}")
        for name in self.hosts:
            Text(read_host).check(f"{self.label()}: hosts", name)
        if self.token is not None:
            from kws_edge.service.web.access import Token

            Token(self.token)

    def open(self, name: str, service: Commands, notice: Callable[[str], None]) -> Web:
        return Web(self, name, service=service, notice=notice)


SECTION = WebSection


class Web(Output):
    """Serves the page, and passes events on to those who look.

    Parameters
    ----------
    section : WebSection
    name, service, notice
        As for :class:`kws_edge.service.outputs.base.Output`.

    Raises
    ------
    ConfigError
        If the token's file cannot be used.
    WriteError
        If a new token cannot be kept.
    """

    wants: ClassVar[frozenset[type[Event]]] = frozenset({Detected, Scores, Reloaded, Telemetry})

    def __init__(self, section: WebSection, name: str, *, service: Commands, notice: Callable[[str], None]) -> None:
        from kws_edge.service.web.access import Access, Token
        from kws_edge.service.web.http import is_loopback

        super().__init__(name, service=service, notice=notice)
        self._section = section
        local = is_loopback(section.host) and not section.hosts
        token = None
        if not local:
            token = Token(section.token or os.path.join(service.state_folder(), "web-token.json"))
            if not token.is_there:
                notice(f"{name}: the token is {token.make()}; it is shown only now ({token.path} keeps its hash)")
        self._access = Access(token, section.hosts, local=local)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._site: Site | None = None
        self._server: threading.Thread | None = None
        self.url: str | None = None
        """Address of the page while it is served."""

    def connect(self) -> None:
        opened: Future[str] = Future()
        self._server = threading.Thread(
            target=lambda: asyncio.run(self._run_server(opened)), name="web server", daemon=True
        )
        try:
            self._server.start()
        except RuntimeError as error:  # no memory for the thread, or too many threads
            self._server = None
            raise OutputError(f"the web page needs a thread of its own: {error}") from None
        try:
            self.url = opened.result()
        except (OSError, ValueError) as error:  # ValueError: the name cannot be sent to a name server
            where = f"{self._section.host} port {self._section.port}"
            raise OutputError(f"cannot listen at {where} ({getattr(error, 'strerror', None) or error})") from None
        self._notice(f"{self.name}: the page is {self.url}")

    async def _run_server(self, opened: Future[str]) -> None:
        from kws_edge.service.web.server import Server
        from kws_edge.service.web.site import HEADERS, Site

        self._stop = asyncio.Event()
        try:
            site = Site(self.service, self._access)
            server = Server(site, HEADERS, self._defect)
            port = await server.start(self._section.host, self._section.port)
        except BaseException as error:
            opened.set_exception(error)
            return
        self._site, self._loop = site, asyncio.get_running_loop()
        self._ahead = threading.Semaphore(_AHEAD)
        opened.set_result(_url(self._section.host, port))
        try:
            await self._stop.wait()
        finally:
            await server.close()

    def _defect(self, error: BaseException) -> None:
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1]
        self._failed += 1
        self._notice(f"{self.name}: a defect: {error!r} at {where.name}, line {where.lineno}")

    def put(self, event: Event) -> None:
        if not isinstance(event, Scores) or (self._site and self._site.is_watched):
            super().put(event)

    def send(self, event: Event) -> None:
        assert self._loop is not None
        if not self._ahead.acquire(timeout=_HANG_S):
            raise OutputError(f"the server of the page did nothing in {_HANG_S:g} s")
        self._loop.call_soon_threadsafe(self._take, event)

    def _take(self, event: Event) -> None:
        assert self._site is not None
        self._ahead.release()
        try:
            self._site.take(event)
        except Exception as error:
            self._defect(error)

    def disconnect(self) -> None:
        if self._server and self._loop:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._server.join(_CLOSE_S)
        self._server = self._loop = self._site = self.url = None


def _url(host: str, port: int) -> str:
    import socket

    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
