"""Weights in files of Keras: .h5 and .keras."""

from __future__ import annotations

import functools

import keras

from host_tools.networks.weight_import import load_weights
from tests.fuzz import folder, written

SECONDS, MEMORY_MB = 10.0, 600


@functools.cache
def network():
    inputs = keras.Input((4, 4, 1))
    x = keras.layers.BatchNormalization(name="bn")(keras.layers.Conv2D(2, 3, name="conv")(inputs))
    return keras.Model(inputs, keras.layers.Dense(2, name="dense")(keras.layers.GlobalAveragePooling2D()(x)))


def seeds():
    for name in ("seed.weights.h5", "seed.h5", "seed.keras"):
        path = folder() / name
        (network().save_weights if "weights" in name else network().save)(path)
        yield path.read_bytes()


def consume(data):
    load_weights(network(), written("weights.keras" if data[:2] == b"PK" else "weights.h5", data))
