"""The web page's server on asyncio, for a few clients in a home."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kws_edge.service.web.http import MAX_HEAD, Page, client_of, is_loopback

__all__ = ["Server"]

MAX_CLIENTS = 100
"""Connections at a time. Others get the status 503."""
MAX_OF_ONE = 25
"""Connections of one client at a time. This machine has no such limit: a proxy on it speaks for many."""


class Server:
    """Answers requests by `page` until it is closed.

    Parameters
    ----------
    page : callable
        Answers a request. It may raise :class:`kws_edge.service.web.http.HttpError`.
    headers : dict
        Headers of every answer.
    defect : callable
        Called with the exception when an answer fails.
    """

    def __init__(self, page: Page, headers: dict[str, str], defect: Callable[[BaseException], None]) -> None:
        self._page, self._headers, self._defect = page, headers, defect
        self._tasks: dict[asyncio.Task[None], str] = {}  # each connection's client
        self.refused = 0
        """Connections that were refused because there were too many."""
        self._server: asyncio.AbstractServer | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port, which matters if `port` is 0."""
        self._server = server = await asyncio.start_server(self._accept, host, port, limit=MAX_HEAD)
        return int(server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """End every connection."""
        if self._server:
            self._server.close()
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection in a task. The server's own would be forgotten at its end."""
        from kws_edge.service.web.exchange import serve  # h11 loads with the first client

        peer = writer.get_extra_info("peername")  # nothing, if the client has gone already
        client = client_of(peer[0]) if peer else ""
        refusal = self._refusal(client)
        self.refused += refusal is not None
        work = serve(reader, writer, self._page, headers=self._headers, defect=self._defect, refusal=refusal)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = client
        task.add_done_callback(self._tasks.pop)

    def _refusal(self, client: str) -> str | None:
        """Why one more connection of a client is refused, if it is."""
        if len(self._tasks) >= MAX_CLIENTS:
            return f"more than {MAX_CLIENTS} clients"
        if list(self._tasks.values()).count(client) >= MAX_OF_ONE and not is_loopback(client):
            return f"more than {MAX_OF_ONE} connections of one client"
        return None
