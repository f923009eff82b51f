"""The other ends of every output of the service: a broker, a web server, and clients of the page and of Wyoming."""

from __future__ import annotations

import asyncio
import http.client
import http.server
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.house import free_port
from tests.mosquitto import PASSWORD, USER, Authority, Listener, Mosquitto

__all__ = ["PageReader", "PageVisitor", "Receivers", "Satellite", "working"]

RATE = 16000
_CHUNK_BYTES = 2048
_FORMAT = {"rate": RATE, "width": 2, "channels": 1}
_LOOK_S = 1.0


class Receivers:
    """What the service itself connects to, and the configuration that names it.

    Parameters
    ----------
    folder : Path
        Folder of the configuration.

    Examples
    --------
    >>> with Receivers(folder) as receivers:  # doctest: +SKIP
    ...     (folder / "serve.toml").write_text(receivers.sections)
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self.posted: list[str] = []
        """Keywords that came by HTTP."""
        self.wyoming_port = free_port()

    def __enter__(self) -> Receivers:
        with ExitStack() as stack:
            posted = self.posted

            class Hook(http.server.BaseHTTPRequestHandler):
                def do_POST(self) -> None:
                    posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["keyword"])
                    self.send_response(204)
                    self.end_headers()

                def log_message(self, *nothing: Any) -> None:
                    pass

            self._hook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
            stack.callback(self._hook.server_close)
            stack.callback(self._hook.shutdown)
            threading.Thread(target=self._hook.serve_forever, daemon=True).start()
            self._broker = stack.enter_context(
                Mosquitto(self._folder, authority=Authority(self._folder), lines=("max_queued_messages 0",))
            )
            self._listener = stack.enter_context(Listener(self._broker))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def has_mqtt(self) -> bool:
        """Whether the service has said to the broker that it is there."""
        return any(one.payload == b"online" for one in list(self._listener.heard))

    @property
    def published(self) -> list[str]:
        """Keywords that the broker passed on."""
        return [one.values["event_type"] for one in list(self._listener.heard) if one.topic.endswith("/event")]

    @property
    def sections(self) -> str:
        """A section for each output. The page takes any port."""
        (self._folder / "password").write_text(PASSWORD)
        return f"""
[jsonl]
[[exec]]
command = "true"
keyword = "go"
[[webhook]]
url = "http://127.0.0.1:{self._hook.server_port}/"
[mqtt]
host = "localhost"
port = {self._broker.port}
tls = true
ca_file = "{self._folder}/ca.pem"
user = "{USER}"
password_file = "password"
[wyoming]
host = "0.0.0.0"
port = {self.wyoming_port}
[web]
port = 0
[clips]
folder = "clips"
max_mb = 1
"""


class _Worker(threading.Thread):
    """A thread that works until it is told to end."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()


@contextmanager
def working(workers: Sequence[_Worker]) -> Iterator[None]:
    """Let clients work meanwhile."""
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.ended.set()
        for worker in workers:
            worker.join(60)


class PageReader(_Worker):
    """Looks at a room's live page, and begins anew if it is dropped."""

    def __init__(self, port: int, room: str) -> None:
        super().__init__()
        self._port, self._room = port, room
        self.events = self.begun = 0

    def run(self) -> None:
        while not self.ended.is_set():
            with suppress(OSError, http.client.HTTPException):
                self._look()
            self.ended.wait(0.1)

    def _look(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request("GET", f"/api/live?room={self._room}")
            answer = connection.getresponse()
            self.begun += 1
            while not self.ended.is_set() and (line := answer.readline()):
                self.events += line.startswith(b"event: ")
        finally:
            connection.close()


class PageVisitor(_Worker):
    """Opens the page every second, hears the newest clip, labels one, and deletes the oldest."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port
        self.visits = 0

    def run(self) -> None:
        while not self.ended.wait(_LOOK_S):
            with suppress(OSError, http.client.HTTPException):
                self._visit()

    def _visit(self) -> None:
        for path in ("/", "/api/session"):
            self._ask("GET", path)
        clips = json.loads(self._ask("GET", "/api/clips"))["clips"]
        if clips:
            self._ask("GET", f"/api/clip?name={clips[0]['name']}")
            self._ask("POST", "/api/clips/label", {"name": clips[0]["name"], "word": "unknown"})
            self._ask("POST", "/api/clips/delete", {"name": clips[-1]["name"]})
        self.visits += 1

    def _ask(self, method: str, path: str, values: object = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            headers = {} if values is None else {"Content-Type": "application/json"}
            connection.request(method, path, None if values is None else json.dumps(values), headers)
            return connection.getresponse().read()
        finally:
            connection.close()


class Satellite(_Worker):
    """A client of Wyoming: it sends speech again and again, by turns as wake words and as a command.

    Parameters
    ----------
    port : int
    speech : numpy.ndarray, shape (n,), int16
    expected : sequence of str
        Keywords in it. A stream that ends with others counts as wrong.
    """

    def __init__(self, port: int, speech: NDArray[np.int16], expected: Sequence[str]) -> None:
        super().__init__()
        self._port, self._data, self._expected = port, speech.astype("<i2").tobytes(), list(expected)
        self.streams = self.wrong = 0

    def run(self) -> None:
        asyncio.run(self._work())

    async def _work(self) -> None:
        while not self.ended.is_set():
            try:
                right = await self._detect() and await self._transcribe()
            except (OSError, EOFError):
                pass  # the service starts, or ends
            else:
                if not self.ended.is_set():
                    self.streams += 2
                    self.wrong += not right
            await asyncio.sleep(_LOOK_S)

    async def _send(self, client: Any, task: Any) -> None:
        from wyoming.audio import AudioChunk, AudioStart, AudioStop

        await client.write_event(task.event())
        await client.write_event(AudioStart(**_FORMAT).event())
        for at in range(0, len(self._data), _CHUNK_BYTES):
            if self.ended.is_set():
                return
            await client.write_event(AudioChunk(**_FORMAT, audio=self._data[at : at + _CHUNK_BYTES]).event())
        await client.write_event(AudioStop().event())

    async def _detect(self) -> bool:
        from wyoming.client import AsyncTcpClient
        from wyoming.wake import Detect, Detection

        found: list[str | None] = []
        async with AsyncTcpClient("127.0.0.1", self._port) as client:
            sending = asyncio.create_task(self._send(client, Detect()))
            while len(found) < len(self._expected):
                event = await asyncio.wait_for(client.read_event(), 60)
                if event is None:
                    raise EOFError
                found.append(Detection.from_event(event).name)
            await sending
        return found == self._expected

    async def _transcribe(self) -> bool:
        from wyoming.asr import Transcribe, Transcript
        from wyoming.client import AsyncTcpClient

        async with AsyncTcpClient("127.0.0.1", self._port) as client:
            sending = asyncio.create_task(self._send(client, Transcribe()))
            event = await asyncio.wait_for(client.read_event(), 60)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        if event is None:
            raise EOFError
        return Transcript.from_event(event).text == self._expected[0]
