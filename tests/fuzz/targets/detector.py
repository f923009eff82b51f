"""Settings of detectors. A detector with these settings detects, and is written in C."""

from __future__ import annotations

import json

import numpy as np

from firmware_export.settings import DetectorSettings
from kws_edge import ConfigError, DetectorConfig, Model, Spotter
from tests.fuzz.values import mutate

__all__ = ["consume", "mutate", "seeds"]

MODEL = Model("micro12")


def seeds():
    configs = (
        DetectorConfig(),
        DetectorConfig(thresholds={"yes": 0.4}, keywords=("yes", "no"), speech_margin=0.2),
        DetectorConfig(wake_word="yes", armed_s=3, smoothing_ms=0, refractory_ms=0),
    )
    return [json.dumps(config.to_dict()).encode() for config in configs]


def consume(data):
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        raise ConfigError("no JSON: who reads the file finds that") from None
    spotter = Spotter(MODEL, detector_config=DetectorConfig.from_dict(values))
    for step in spotter.process_steps(np.zeros(3200, np.int16)):
        assert step.posteriors.shape == (12,)
    settings = DetectorSettings(spotter.detector, step_frames=spotter.step_frames)
    settings.source()
    settings.macros()
