"""Room profiles: the thresholds that were calibrated on a device."""

from __future__ import annotations

import json

from kws_edge import DetectorConfig, Model
from kws_edge.detection.room_profile import RoomProfile
from tests.fuzz import written
from tests.fuzz.values import mutate

__all__ = ["consume", "mutate", "seeds"]

MODEL = Model("micro12")


def seeds():
    detector = DetectorConfig(thresholds={"yes": 0.7, "no": 0.9})
    values = {"date": "2026-01-01T00:00:00", "hours": 1.5, "false_accepts": 2, "budget": 1.0}
    profile = RoomProfile.of(MODEL, **values, detector_config=detector)
    path = written("room.json", b"")
    profile.save(path)
    yield path.read_bytes()
    yield json.dumps({"format": 1}).encode()


def consume(data):
    profile = RoomProfile.load(written("room.json", data), MODEL)
    assert profile.summary
    assert profile.detector_config.differences(MODEL.detector_config) is not None
    assert profile.thresholds is not None
