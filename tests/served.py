"""``kws-edge serve`` as a process of its own, that hears a recording at the pace of live audio through a named pipe."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import soundfile

from tests.conftest import wait_until

_ENDLESS = struct.pack("<I", 0xFFFFFFFF)
_WAV = b"RIFF" + _ENDLESS + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16) + b"data" + _ENDLESS
_BLOCK = 320


class Served:
    """A running service."""

    def __init__(self, folder: Path, process: subprocess.Popen) -> None:
        self.folder, self.process = folder, process

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def port(self) -> int:
        """Port of the page, as the service tells it."""
        wait_until(lambda: "the page is" in self.log or self.process.poll() is not None, 120)
        found = re.findall(r"the page is http://\S+:(\d+)/", self.log)
        assert found, self.log
        return int(found[-1])

    def ask(self, method, path, values=None, *, host="127.0.0.1", headers=(), raw=False):
        """Send a request; return the status and the values of the answer."""
        connection = http.client.HTTPConnection(host, self.port, timeout=30)
        body = None if values is None else json.dumps(values)
        kind = {"Content-Type": "application/json"} if body else {}
        try:
            connection.request(method, path, body, {**kind, **dict(headers)})
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        self.headers = dict(response.getheaders())
        return response.status, data if raw else json.loads(data)

    @contextmanager
    def events(self, room="kitchen", headers=()):
        """The live events, as pairs of a name and values. Each ends after 60 s without one."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", f"/api/live?room={room}", headers=dict(headers))
            response = connection.getresponse()
            assert response.status == 200
            assert response.getheader("Content-Type") == "text/event-stream"

            def parsed():
                kind = ""
                while line := response.readline():
                    name, _, value = line.decode().rstrip("\n").partition(": ")
                    if name == "event":
                        kind = value
                    elif name == "data":
                        yield kind, json.loads(value)

            yield parsed()
        finally:
            connection.close()

    def event(self, kind, room="kitchen"):
        """The values of the next live event of a kind."""
        with self.events(room) as events:
            return next(values for name, values in events if name == kind)

    def end(self) -> str:
        """End the service as a supervisor does; return all that it said."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0, self.log
        return self.log


def _feed(pipe: Path, recording: Path, pace: float, repeat: bool, stop: threading.Event) -> None:
    samples, rate = soundfile.read(recording, dtype="int16")
    assert rate == 16000
    with suppress(OSError), open(pipe, "wb", buffering=0) as file:  # the service may end first
        file.write(_WAV)
        begin, n = time.monotonic(), 0
        while not stop.is_set() and (repeat or n < len(samples)):
            block = samples[n % len(samples) :][:_BLOCK]
            file.write(block.tobytes())
            n += len(block)
            time.sleep(max(0.0, begin + n / rate / pace - time.monotonic()))


@contextmanager
def served(folder: Path, sections: str, recording: Path, *, pace: float = 1.0, repeat: bool = True):
    """Serve `recording` as the room "kitchen", with further sections of the configuration."""
    folder.mkdir(exist_ok=True)
    if not (folder / "microphone").exists():
        os.mkfifo(folder / "microphone")
    (folder / "serve.toml").write_text(
        f'[service]\nstate = "state"\ntelemetry_s = 1\n[[source]]\nname = "kitchen"\nfile = "microphone"\n{sections}'
    )
    stop = threading.Event()
    with open(folder / "log", "w") as log:
        command = [sys.executable, "-m", "kws_edge", "serve", "--config", str(folder / "serve.toml")]
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    feeder = threading.Thread(target=_feed, args=(folder / "microphone", recording, pace, repeat, stop), daemon=True)
    feeder.start()
    try:
        yield Served(folder, process)
    finally:
        stop.set()
        if process.poll() is None:
            process.kill()
            process.wait()
        with suppress(OSError):  # a feeder that waits for a reader
            os.close(os.open(folder / "microphone", os.O_RDONLY | os.O_NONBLOCK))
        feeder.join(10)
