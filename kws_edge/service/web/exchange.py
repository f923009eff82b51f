"""Requests and answers on one connection to the web page. ``h11`` parses; this module keeps to the limits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

import h11

from kws_edge.service.web.http import MAX_HEAD, MAX_UNREAD, HttpError, Page, Request, Response, Stream

__all__ = ["serve"]

MAX_BODY = 64 * 1024
"""Bytes of a request's body."""
_QUERY_FIELDS = 16
_REQUEST_S = 10.0
"""Seconds in which a client must send a whole request, from the end of the one before."""
_READ_S = 30.0
"""Seconds in which a client must read an answer."""
_CHUNK = 4096  # h11 limits only what it cannot parse yet, so this much more may come
_SEND_BUFFER = 64 * 1024  # the kernel's own would hide for minutes that a client does not read


async def serve(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    page: Page,
    *,
    headers: dict[str, str],
    defect: Callable[[BaseException], None],
    refusal: str | None,
) -> None:
    """Answer a client's requests by `page` until it goes away. With a `refusal`, tell it that at once.

    Parameters
    ----------
    reader, writer : asyncio streams
    page, headers, defect
        As for :class:`kws_edge.service.web.server.Server`.
    refusal : str or None
        Why the client is not served.
    """
    connection = _Connection(reader, writer, headers, defect)
    try:
        if refusal:
            await connection.refuse(HttpError(503, refusal))
            return
        while await connection.exchange(page):
            pass
    except (OSError, asyncio.TimeoutError, h11.LocalProtocolError):
        pass  # the client has gone, or is too slow
    finally:
        if connection.stuck:
            writer.transport.abort()
        writer.close()
        try:
            await asyncio.wait_for(writer.wait_closed(), _READ_S)
        except (OSError, asyncio.TimeoutError):
            writer.transport.abort()


class _Connection:
    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        headers: dict[str, str],
        defect: Callable[[BaseException], None],
    ) -> None:
        self._reader, self._writer, self._headers, self._defect = reader, writer, headers, defect
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._is_head = False
        self.stuck = False
        """Whether the client leaves an answer unread."""
        with contextlib.suppress(OSError):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        writer.transport.set_write_buffer_limits(high=MAX_UNREAD)

    async def exchange(self, page: Page) -> bool:
        """Take a request and answer it. Returns whether the connection goes on."""
        try:
            request = await asyncio.wait_for(self._request(), _REQUEST_S)
        except h11.RemoteProtocolError as error:
            await self.refuse(HttpError(error.error_status_hint, "not understood"))
            return False
        except HttpError as error:
            await self.refuse(error)
            return False
        if request is None:
            return False
        await self._answer(await self._response(page, request))
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
            return True
        return False

    async def _response(self, page: Page, request: Request) -> Response:
        try:
            return await page(request)
        except HttpError as error:
            return _refusal(error)
        except Exception as error:  # a defect: it costs this answer only
            self._defect(error)
            return _refusal(HttpError(500, "a defect of kws-edge; its log says more"))

    async def _event(self) -> Any:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            if self._h11.they_are_waiting_for_100_continue:
                self._write(h11.InformationalResponse(status_code=100, headers=[]))
            self._h11.receive_data(await self._reader.read(_CHUNK))
        return event

    async def _request(self) -> Request | None:
        """The next request, or None if there is no other."""
        head = await self._event()
        if not isinstance(head, h11.Request):
            return None
        self._is_head = head.method == b"HEAD"
        headers: dict[str, str] = {}
        for raw, value in head.headers:
            name, text = raw.decode("ascii"), value.decode("latin-1")
            headers[name] = f"{headers[name]},{text}" if name in headers else text
        if {"content-length", "transfer-encoding"} <= headers.keys():
            raise HttpError(400, "two lengths")  # a proxy may believe the other one, and see other requests
        body = bytearray()
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
            if len(body) > MAX_BODY:
                raise HttpError(413, f"a request has at most {MAX_BODY} bytes")
        path, _, query = head.target.decode("ascii").partition("?")
        try:
            fields = dict(parse_qsl(query, errors="strict", max_num_fields=_QUERY_FIELDS))
        except ValueError:
            raise HttpError(400, "the query is not understood") from None
        peer = self._writer.get_extra_info("peername")  # nothing, if the client has gone already
        address = peer[0] if peer else "::"
        return Request(head.method.decode("ascii"), path, fields, headers, bytes(body), address)

    async def refuse(self, error: HttpError) -> None:
        """Answer, if that is still possible, and end."""
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self._answer(_refusal(error), close=True)

    async def _answer(self, response: Response, *, close: bool = False) -> None:
        headers = {**self._headers, **response.headers}
        if response.stream is None:
            headers["Content-Length"] = str(len(response.body))
        if close or self._h11.their_state is not h11.DONE:  # the rest of the request is not read
            headers["Connection"] = "close"
        self._write(h11.Response(status_code=response.status, headers=list(headers.items())))
        if response.stream:
            await self._follow(response.stream)
        elif not self._is_head:
            self._write(h11.Data(data=response.body))
        if not self.stuck:
            self._write(h11.EndOfMessage())
            await self._drain()

    async def _follow(self, send: Callable[[Stream], Awaitable[None]]) -> None:
        """Let `send` give the body until it ends, or the client goes away."""
        stream = Stream(lambda data: self._h11.send(h11.Data(data=data)) or b"", self._writer)
        work = asyncio.ensure_future(send(stream))
        gone = asyncio.ensure_future(self._reader.read(1))  # a client that sends more meanwhile has also gone
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            gone.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
        if not work.cancelled() and (error := work.exception()):
            self._defect(error)
        self.stuck = True

    def _write(self, event: Any) -> None:
        self._writer.write(self._h11.send(event) or b"")

    async def _drain(self) -> None:
        try:
            await asyncio.wait_for(self._writer.drain(), _READ_S)
        except asyncio.TimeoutError:
            self.stuck = True
            raise


def _refusal(error: HttpError) -> Response:
    body = json.dumps({"error": error.text}).encode()
    return Response(body, error.status, {"Content-Type": "application/json", **error.headers})
