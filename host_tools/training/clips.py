"""What training on clips is: examples with one label each, a softmax and cross entropy."""

from __future__ import annotations

import functools
from collections.abc import Generator

import keras
import numpy as np

from host_tools.devices.precision import copied
from host_tools.networks.dequantize import load_int8
from host_tools.networks.models import build
from host_tools.networks.qat import quantisation_aware
from host_tools.networks.weight_import import set_head, transfer
from host_tools.sampling.bank import Bank
from host_tools.sampling.batches import Batches
from host_tools.sampling.examples import Examples, load_examples
from host_tools.training.run import Run, load_run
from host_tools.training.task import Task

__all__ = ["ClipTask"]

_CALIBRATION = 600


class ClipTask(Task):
    """Trains a network of clips."""

    metrics = ("loss", "accuracy")

    def network(self) -> keras.Model:
        return build(self.network_config.model, self.frontend_config, len(self.labels), width=self.network_config.width)

    def load(self) -> Examples[Bank]:
        config = self.config
        self.examples = load_examples(
            config.data, self.frontend_config, self.labels, audio_copies=config.mix.audio_copies, seed=config.seed
        )
        self.batches = Batches(
            self.examples,
            config.mix,
            batch_size=config.optim.batch_size,
            seed=config.seed,
            smoothing=config.optim.smoothing,
        )
        return self.examples

    def keep(self, run: Run) -> None:
        parts = self.batches.set_aside(_CALIBRATION, self.config.seed)
        run.keep_examples(
            {f"{part}{end}": a for part, pair in parts.items() for end, a in zip(("", "_truth"), pair, strict=True)}
        )
        inputs, truth = parts["validation"]
        self._validation = inputs, np.eye(len(self.labels), dtype=np.float32)[truth]

    def load_int8(self, model: keras.Model, path: str, run: Run) -> list[str]:
        return load_int8(model, path, self.frontend_config, run.examples("calibration")[0], self.labels)

    def load_run(self, model: keras.Model, parent: Run) -> list[str]:
        source = parent.model()
        left = transfer(source, model)
        if parent.labels != self.labels:
            left = [layer for layer in left if layer != model.layers[-1].name]
            kernel, bias = source.layers[-1].get_weights()
            left += set_head(model, kernel, bias, parent.labels, self.labels)
        return left

    def quantisation_aware(self, run: Run) -> keras.Model:
        return quantisation_aware(
            load_run(self.config.weights.qat).model(), run.calibration(200, seed=self.config.seed)
        )

    def trainable(self, network: keras.Model) -> keras.Model:
        optim = self.config.optim
        network.compile(
            optimizer=keras.optimizers.AdamW(optim.learning_rate, weight_decay=optim.weight_decay),
            loss="categorical_crossentropy",
            metrics=["accuracy"],
        )
        return network

    def epoch(self, model: keras.Model, epoch: int) -> Generator[tuple, None, None]:
        for x, y in self.batches.epoch(epoch, self.config.optim.steps):
            if self.teacher:
                share = np.float32(self.config.weights.teacher_weight)
                y = (1 - share) * y + share * self.devices.answers(self.teacher, x)
            yield x, y

    def mine(self, model: keras.Model, epoch: int) -> str:
        found = self.batches.mine(functools.partial(self.devices.answers, model), epoch)
        return ", ".join(f"{n} windows of {name}" for name, n in found.items())

    def kept(self, model: keras.Model) -> keras.Model:
        return copied(model)  # without the optimizer's state, which is twice the weights

    def validate(self, model: keras.Model, kept: keras.Model) -> dict[str, float]:
        own, size = self.devices.local(model), self.config.optim.batch_size
        logs = own.evaluate(*self._validation, batch_size=size, verbose=0, return_dict=True)
        return {name: float(logs[name]) for name in ("loss", "accuracy")}

    def better(self, now: dict[str, float], best: dict[str, float]) -> bool:
        """By validation loss. Quantisation-aware runs go by accuracy: their few steps change the confidence of
        posteriors more than their order."""
        if self.config.weights.qat:
            return now["val_accuracy"] > best["val_accuracy"]
        return now["val_loss"] < best["val_loss"]
