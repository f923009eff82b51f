"""Settings of front ends, in JSON files and in model files. Front ends with these settings compute."""

from __future__ import annotations

import json

import numpy as np

from firmware_export.tables import FrontendTables
from kws_edge import PRESETS, Frontend
from kws_edge.cli.options import frontend
from tests.fuzz import written
from tests.fuzz.values import mutate

__all__ = ["consume", "mutate", "seeds"]


def seeds():
    return [json.dumps(config.to_dict()).encode() for config in PRESETS.values()]


def consume(data):
    config = frontend(str(written("frontend.json", data)))
    assert len(config.hash) == 16
    levels = Frontend(config)(np.zeros(config.clip_samples, np.int16))
    assert levels.shape == config.feature_shape
    FrontendTables(config, 1.0, -128).source()
