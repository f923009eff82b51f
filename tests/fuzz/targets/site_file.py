"""Site files: the thresholds that were calibrated on a device."""

from __future__ import annotations

import json

from kws_edge import DetectorConfig, Model
from kws_edge.detection.room_profile import Site
from tests.fuzz import written
from tests.fuzz.values import mutate

__all__ = ["consume", "mutate", "seeds"]

MODEL = Model("micro12")


def seeds():
    detector = DetectorConfig(thresholds={"yes": 0.7, "no": 0.9})
    site = Site.of(MODEL, date="2026-01-01T00:00:00", hours=1.5, false_accepts=2, budget=1.0, detector_config=detector)
    path = written("site.json", b"")
    site.save(path)
    yield path.read_bytes()
    yield json.dumps({"format": 1}).encode()


def consume(data):
    site = Site.load(written("site.json", data), MODEL)
    assert site.summary
    assert site.differences(MODEL.detector_config) is not None
    assert site.thresholds is not None
