"""What the page shows live: server-sent events for every client that looks."""

from __future__ import annotations

import asyncio
import binascii
import json
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kws_edge.service.events import Detected, Event, Reloaded, Scores, Telemetry
from kws_edge.service.web.http import Stream

if TYPE_CHECKING:
    from kws_edge.service.commands import Commands

__all__ = ["Live"]

_HISTORY = 100
_HEARTBEAT_S = 10.0  # finds clients that are gone without a word


class Live:
    """Passes events on to the clients that look. It lives in the server's event loop.

    While nobody looks, it only remembers the latest detections.

    Parameters
    ----------
    service : Commands
    about : callable
        More values for a client that begins to look.
    """

    def __init__(self, service: Commands, about: Callable[[], Mapping[str, Any]]) -> None:
        self._service, self._about = service, about
        self._clients: dict[Stream, str] = {}
        self._rooms: dict[str, Reloaded] = {}
        self._detections: deque[dict[str, Any]] = deque(maxlen=_HISTORY)
        self.dropped = 0
        """Clients that were dropped because they do not read."""

    @property
    def has_clients(self) -> bool:
        return bool(self._clients)

    def take(self, event: Event) -> None:
        """Pass an event on."""
        if isinstance(event, Scores):
            if event.room in self._rooms and event.room in self._clients.values():
                self.tell("scores", _scores(event, self._rooms[event.room]), only=event.room)
        elif isinstance(event, Detected):
            self._detections.append(values := _detected(event))
            self.tell("detection", values)
        elif isinstance(event, Reloaded):
            self._rooms[event.room] = event
            self.tell("settings", _settings(event))
        elif isinstance(event, Telemetry):
            self.tell("telemetry", _telemetry(event))
            self.tell("outputs", self._service.outputs())

    def tell(self, kind: str, values: Any, *, only: str | None = None) -> None:
        """Send values to all clients, or to those that look at one room."""
        if self._clients:
            data = _message(kind, values)
            for stream, room in list(self._clients.items()):
                if only in (None, room):
                    stream.send(data)

    async def follow(self, stream: Stream, room: str, is_known: Callable[[], bool]) -> None:
        """Tell a client everything, and then what changes, until it goes away or is not known any more."""
        self._rooms = dict(self._service.rooms())
        stream.send(_message("begin", self._state()))
        self._clients[stream] = room
        try:
            while is_known():
                await asyncio.sleep(_HEARTBEAT_S)
                stream.send(b":\n\n")
        finally:
            del self._clients[stream]
            self.dropped += stream.dropped

    def _state(self) -> dict[str, Any]:
        return {
            "rooms": [_settings(one) for one in self._rooms.values()],
            "telemetry": [_telemetry(one) for one in self._service.telemetry().values()],
            "detections": list(self._detections),
            "outputs": self._service.outputs(),
            **self._about(),
        }


def _message(kind: str, values: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(values, separators=(',', ':'))}\n\n".encode()


def _settings(event: Reloaded) -> dict[str, Any]:
    names = ("room", "model", "labels", "keywords", "possible", "taught", "sensitivity", "has_sensitivity", "wake_word")
    values = {name: getattr(event, name) for name in (*names, "step_s")}
    return {**values, "thresholds": {word: round(float(one), 4) for word, one in event.thresholds.items()}}


def _telemetry(event: Telemetry) -> dict[str, Any]:
    names = ("room", "time", "present", "level_db", "noise_db", "lost_s", "outages", "detections", "latency_s")
    return {name: getattr(event, name) for name in (*names, "heard_s", "temperature_c")}


def _detected(event: Detected) -> dict[str, Any]:
    found = event.detection
    return {
        "room": event.room,
        "time": event.time,
        "keyword": found.keyword,
        "score": round(found.score, 3),
        "threshold": round(float(event.threshold), 3),
        "end_s": found.end_s,
        "wake": found.wake,
    }


def _scores(event: Scores, room: Reloaded) -> dict[str, Any]:
    """An inference in few bytes: posteriors in thousandths, and log-mel frames as bytes of the range of levels."""
    low, high = room.level_range
    frames = np.clip((event.frames - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    return {
        "t": round(event.time_s, 3),
        "level": round(event.level_db, 1),
        "p": np.rint(event.smoothed * 1000).astype(int).tolist(),
        "at": np.rint(event.thresholds * 1000).astype(int).tolist(),
        "armed": event.armed,
        "bands": event.frames.shape[1],
        "mel": binascii.b2a_base64(frames.tobytes(), newline=False).decode("ascii"),
    }
