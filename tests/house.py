"""Rooms for tests of single outputs: what outputs may ask of the service, without audio."""

from __future__ import annotations

import dataclasses
import socket
import time
from collections.abc import Mapping

from kws_edge import Detection, shipped_models
from kws_edge.errors import ConfigError
from kws_edge.service.events import Detected, Reloaded, Telemetry

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def reloaded(room: str, keywords: tuple[str, ...] = WORDS, **more) -> Reloaded:
    values = {
        "model": shipped_models()["commands12"], "labels": ("silence", "unknown", *WORDS), "keywords": keywords,
        "possible": WORDS, "thresholds": dict.fromkeys(WORDS, 0.8), "sensitivity": 0.5, "has_sensitivity": True,
        "taught": (), "taught_file": None, "wake_word": None, "step_s": 0.1, "level_range": (0.0, 255.0),
    }  # fmt: skip
    return Reloaded(room=room, **(values | more))


def detected(room: str, keyword: str, *, age_s: float = 0) -> Detected:
    found = Detection(keyword=keyword, score=0.91, start_s=1.0, end_s=2.0)
    return Detected(room=room, detection=found, threshold=0.8, made=time.monotonic() - age_s)


def telemetry(room: str, **more) -> Telemetry:
    values = {
        "present": True, "level_db": -31.25, "noise_db": -52.5, "lost_s": 0.0, "outages": 0, "detections": 3,
        "latency_s": 0.012, "heard_s": 60.0, "temperature_c": 48.5,
    }  # fmt: skip
    return Telemetry(room=room, **(values | more))


class House:
    """A service of rooms that hear nothing. It keeps what outputs set, and tells them."""

    def __init__(self, *rooms: str) -> None:
        self._rooms = {room: reloaded(room) for room in rooms}
        self.states: dict[str, Telemetry] = {}
        self.outputs_: list = []

    def rooms(self) -> Mapping[str, Reloaded]:
        return dict(self._rooms)

    def taught(self) -> None:
        return None

    def telemetry(self) -> Mapping[str, Telemetry]:
        return dict(self.states)

    def set_sensitivity(self, value: float, *, room: str | None = None) -> None:
        if room not in self._rooms:
            raise ConfigError(f"no room {room!r}")
        self.change(room, sensitivity=value)

    def change(self, room: str, **values) -> None:
        self._rooms[room] = dataclasses.replace(self._rooms[room], **values, made=time.monotonic())
        for output in self.outputs_:
            output.put(self._rooms[room])
