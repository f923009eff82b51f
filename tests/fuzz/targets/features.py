"""Precomputed features and their manifest, in one input with a mark between them."""

from __future__ import annotations

import io

import numpy as np

from host_tools.data.stored_features import load_features
from tests.fuzz import folder, written

MARK = b"\nMANIFEST\n"


def seeds():
    out = io.BytesIO()
    np.save(out, np.zeros((2, 3, 4), np.uint8))
    yield out.getvalue() + MARK + b"word\tspeaker\tsplit\nyes\ta\ttraining\nno\tb\tvalidation\n"


def consume(data):
    features, _, manifest = data.partition(MARK)
    written("features.npy", features)
    written("manifest.tsv", manifest)
    found = load_features(folder(), (3, 4))
    assert len(found.levels) == len(found.words)
    found.levels.sum()
