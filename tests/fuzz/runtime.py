"""TFLite flatbuffers in the runtime: whatever is not refused can be run, and the process survives."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np

from kws_edge import Model, unpack
from tests.fuzz import written

SHIPPED = Model("micro12")


def seeds():
    flatbuffer, _ = unpack(Path(SHIPPED.path).read_bytes(), "micro12")
    yield flatbuffer


def mutate(data, size, seed):
    """A byte, or a number of four bytes, changed within the first or last tables, where the structure is."""
    rng, data = random.Random(seed), bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(data) - 8)
        if rng.random() < 0.5:
            data[at] = rng.choice((0, 1, 2, 127, 128, 255, rng.randrange(256)))
        else:
            value = rng.choice((0, 1, -1, 2, 3, 2**31 - 1, -(2**31), rng.randrange(256), -rng.randrange(256)))
            struct.pack_into("<i", data, at & ~3, value)
    return bytes(data[:size])


def consume(data):
    path = written("model.tflite", data)
    model = Model(path, labels=SHIPPED.labels, front_end=SHIPPED.front_end, kernels="builtin")
    model.classify(np.zeros(16000, np.int16))
