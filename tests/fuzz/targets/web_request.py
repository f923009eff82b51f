"""Requests to the web page: the server's part of HTTP, and what the page's addresses take."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import wave

from kws_edge.service.service import Service
from kws_edge.service.web.access import Access
from kws_edge.service.web.server import Server
from kws_edge.service.web.site import HEADERS, Site
from tests.fuzz import folder, written

__all__ = ["consume", "seeds"]

_POSTS = {
    "settings": {"room": "a", "thresholds": {"yes": 0.5}},
    "wrong": {"room": "a", "end_s": 1.5},
    "examine": {"room": "a"},
    "clips/label": {"name": "20260101T000000000Z-a-stop-0.50-hit.wav", "word": "stop"},
    "clips/delete": {"name": "20260101T000000000Z-a-stop-0.50-hit.wav"},
    "calibration": {"room": "a", "minutes": 3, "budget": 1},
    "calibration/stop": {},
    "login": {"token": "x"},
    "logout": {},
}


def _service():
    """A service that has heard a second."""
    with wave.open(str(folder() / "second.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 16000, "NONE", ""))
        file.writeframes(bytes(32_000))
    text = '[service]\nstate = "state"\n[[source]]\nname = "a"\nfile = "second.wav"\n[clips]\nfolder = "clips"\n'
    service = Service(str(written("serve.toml", text.encode())), notice=lambda text: None)
    service.run()
    return service


class _Page:
    """The page behind a real server, and what went wrong in it."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.defects = []
        self.loop.run_until_complete(self._start())

    async def _start(self):
        site = Site(_service(), Access(None, ["voice.example"], local=True))
        server = Server(site, HEADERS, self.defects.append)
        self._server = await asyncio.start_unix_server(server._accept, str(folder() / "socket"))

    async def ask(self, data):
        reader, writer = await asyncio.open_unix_connection(str(folder() / "socket"))
        try:
            writer.write(data)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
                writer.write_eof()
                return await asyncio.wait_for(reader.read(), 20)
        finally:
            writer.transport.abort()


@functools.cache
def _page():
    return _Page()


def seeds():
    for path in ("/", "/app.js", "/api/live?room=a", "/api/clips", "/api/clip?name=x", "/api/session"):
        yield f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    settings = [{"room": "a", "sensitivity": 0.5}, {"room": "a", "keywords": ["yes", "no"]}]
    for path, values in [*_POSTS.items(), *(("settings", one) for one in settings)]:
        body = json.dumps(values)
        head = f"POST /api/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        yield f"{head}Content-Length: {len(body)}\r\nCookie: kws-edge=x\r\n\r\n{body}".encode()
        yield f"{head}Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n{body}\r\n0\r\n\r\n".encode()
    yield b"GET / HTTP/1.1\r\nHost: voice.example\r\nOrigin: http://voice.example\r\n\r\n"


def consume(data):
    page = _page()
    answer = page.loop.run_until_complete(page.ask(data))
    assert not answer or answer.startswith(b"HTTP/1.1 ")
    if page.defects:
        raise page.defects.pop()
