"""Trains the same network on several devices that share each batch, and on one; prints both curves as JSON.

    KERAS_BACKEND=jax python -m tests.shared_steps clips|sequences STEPS [HOSTS RANK]

Without hosts, the devices are those of this machine. Batches are made up, so that hundreds of steps take seconds.
Several devices add up in another order than one does, and training makes such differences grow. In float32 they reach
the losses themselves within a hundred steps. So all is in float64.
"""

from __future__ import annotations

import json
import sys

import keras
import numpy as np

from benchmarks.devices import in_float64
from host_tools.config import DevicesConfig
from host_tools.devices.join import joined
from host_tools.devices.one import OneDevice
from host_tools.networks.models import build
from host_tools.networks.streaming import SCORE_OFFSET, scoring, states
from host_tools.training.sequences import AnswerLoss
from host_tools.training.trainer import _seed_dropout
from kws_edge.presets import preset

BATCH, FRAMES, LABELS = 8, 64, 3
RATE = 1e-3
OPTIONS = {"width": 0.125, "dropout": 0.2}


def model_of(kind: str) -> keras.Model:
    """A compiled network, with the same weights in every process."""
    keras.utils.set_random_seed(1)
    if kind == "clips":
        network = build("micro", preset("logmel40"), LABELS, **OPTIONS)
        network.compile(keras.optimizers.AdamW(RATE), "categorical_crossentropy", metrics=["accuracy"])
        return network
    network = scoring(build("stream_micro", preset("logmel40"), LABELS, **OPTIONS))
    optimizer = keras.optimizers.AdamW(RATE, beta_2=0.98, clipnorm=5.0, use_ema=True, ema_momentum=0.9)
    network.compile(optimizer, AnswerLoss(0, 5.0, (7, 3)))
    return network


def batches(kind: str, steps: int, model: keras.Model):
    """Inputs and targets of each step: levels at random, louder in some bands where a label is true."""
    rng = np.random.default_rng(2)
    frames = 98 if kind == "clips" else FRAMES
    for _ in range(steps):
        levels = rng.uniform(30, 120, (BATCH, frames, 40)).astype(np.float32)
        truth = rng.integers(LABELS, size=BATCH)
        for one, label in zip(levels, truth, strict=True):
            one[:, 10 * label : 10 * label + 10] += 60
        if kind == "clips":
            yield levels[..., np.newaxis], np.eye(LABELS, dtype=np.float32)[truth]
            continue
        targets = np.full((BATCH, FRAMES // 4, LABELS), -0.1, np.float32)
        targets[np.arange(BATCH), FRAMES // 4 - 1, truth] = 1
        yield [levels[:, :, np.newaxis], *states(model, BATCH)], targets


def curve(devices: OneDevice, kind: str, steps: int) -> dict:
    """The losses, and afterwards the answers to the last batch, of the weights and of their averages."""
    model = devices.placed(model_of(kind))
    _seed_dropout(model, 1, 0)
    losses = []
    for x, y in batches(kind, steps, model):
        losses.append(float(devices.step(model, x, y, learning_rate=RATE)["loss"]))
    found = {"losses": losses, "answers": devices.answers(model, x).ravel()[:200].tolist()}
    if kind == "sequences":
        model.optimizer.finalize_variable_values(model.trainable_variables)
        averaged = devices.answers(model, x) - SCORE_OFFSET
        found["averaged"] = averaged.ravel()[:200].tolist()
    # A part of a batch that the devices do not divide evenly, as mining and validation have it.
    odd = [part[:5] for part in x] if isinstance(x, list) else x[:5]
    found["odd"] = devices.answers(model, odd).shape[0]
    return found


def main() -> None:
    kind, steps, *places = sys.argv[1:]
    in_float64()
    config = DevicesConfig(hosts=places[0], rank=int(places[1])) if places else DevicesConfig(devices="all")
    found = {}
    with joined(config, {}, say=lambda line: None) as devices:
        found["several"] = {"number": devices.number, **curve(devices, kind, int(steps))}
        found["one"] = curve(OneDevice(), kind, int(steps)) if not config.rank else None
    print(json.dumps(found))


if __name__ == "__main__":
    main()
