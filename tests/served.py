"""``kws-edge serve`` with a web page, which hears a recording at the pace of live audio."""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import re
import signal
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import soundfile

from kws_edge.model.file import pack
from kws_edge.model.model import read_model
from tests.conftest import wait_until
from tests.serving import RATE, Feed, Serving

_BLOCK = RATE // 50


class Served:
    """A running service."""

    def __init__(self, folder: Path, serving: Serving) -> None:
        self.folder, self.serving = folder, serving
        self.process = serving.process

    @property
    def log(self) -> str:
        return self.serving.said

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
        self.serving.finish(signal.SIGTERM)
        return self.log


def measured_model(path: Path) -> Path:
    """Write commands12 as if it had been measured at a low and at a high sensitivity."""
    _, flat, metadata = read_model("commands12")
    own = metadata.detector_config
    points = []
    for sensitivity, by in ((0.0, 0.1), (0.5, 0.0), (1.0, -0.2)):
        thresholds = {word: min(0.99, value + by) for word, value in own.thresholds.items()}
        values = {"threshold": own.threshold + by, "thresholds": thresholds}
        points.append({"sensitivity": sensitivity, **values, "misses": 0.1, "false_accepts_per_hour": 1.0})
    metrics = {**metadata.metrics, "operating_points": points}
    path.write_bytes(pack(flat.data, dataclasses.replace(metadata, metrics=metrics)))
    return path


def unmeasured_model(path: Path) -> Path:
    """Write commands12 as if its operating points had never been measured."""
    _, flat, metadata = read_model("commands12")
    metrics = {name: value for name, value in metadata.metrics.items() if name != "operating_points"}
    path.write_bytes(pack(flat.data, dataclasses.replace(metadata, metrics=metrics)))
    return path


def _feed(feed: Feed, recording: Path, pace: float, repeat: bool, stop: threading.Event) -> None:
    samples, rate = soundfile.read(recording, dtype="int16")
    assert rate == RATE
    begin, n = None, 0
    with suppress(OSError):  # the service may end first
        while not stop.is_set() and (repeat or n < len(samples)):
            block = samples[n % len(samples) :][:_BLOCK]
            feed.write(block)
            begin, n = begin or time.monotonic(), n + len(block)
            time.sleep(max(0.0, begin + n / rate / pace - time.monotonic()))
        feed.close()


@contextmanager
def served(folder: Path, sections: str, recording: Path, *, pace: float = 1.0, repeat: bool = True):
    """Serve `recording` as the room "kitchen", with further sections of the configuration."""
    folder.mkdir(exist_ok=True)
    pipe, stop = folder / "microphone", threading.Event()
    pipe.unlink(missing_ok=True)
    feed = Feed(pipe)
    text = f'[service]\nstate = "state"\ntelemetry_s = 1\n[[source]]\nname = "kitchen"\nfile = "microphone"\n{sections}'
    serving = Serving(folder, text)
    feeder = threading.Thread(target=_feed, args=(feed, recording, pace, repeat, stop), daemon=True)
    feeder.start()
    try:
        yield Served(folder, serving)
    finally:
        stop.set()
        if serving.process.poll() is None:
            serving.kill()
        with suppress(OSError):  # a feeder that waits for a reader
            os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))
        feeder.join(10)
