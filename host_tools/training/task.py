"""What differs between training on clips and on sequences, for :class:`host_tools.training.trainer.Trainer`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from typing import Any

import keras

from host_tools.config import StageConfig
from host_tools.devices.one import OneDevice
from host_tools.sampling.examples import Examples
from host_tools.training.run import Run
from kws_edge.presets import preset

__all__ = ["Task"]


class Task(ABC):
    """Makes a network, batches for it and its validation.

    Parameters
    ----------
    config : StageConfig
    devices : OneDevice
    teacher : keras.Model or None
        A network whose posteriors are mixed into the targets.
    """

    examples: Examples[Any]
    metrics: tuple[str, ...]
    """Names of the numbers of a training batch."""

    def __init__(self, config: StageConfig, devices: OneDevice, teacher: keras.Model | None = None) -> None:
        self.config, self.devices, self.teacher = config, devices, teacher
        self.network_config, self.labels = config.network, config.network.outputs
        self.frontend_config = preset(config.network.frontend)

    @abstractmethod
    def network(self) -> keras.Model:
        """A network without training, as :meth:`kept` returns it. It needs no data."""

    def to_train(self) -> keras.Model:
        """The network that gets the weights to start from."""
        return self.network()

    @abstractmethod
    def load(self) -> Examples[Any]:
        """Read the data."""

    @abstractmethod
    def keep(self, run: Run) -> None:
        """Keep examples for validation and quantisation in the run's folder."""

    @abstractmethod
    def load_int8(self, model: keras.Model, path: str, run: Run) -> list[str]:
        """Set the weights of `model` from an INT8 file. Returns names of labels and layers that it does not set."""

    @abstractmethod
    def load_run(self, model: keras.Model, parent: Run) -> list[str]:
        """Set the weights of `model` from another run. Returns names of labels and layers that it does not set."""

    @abstractmethod
    def quantisation_aware(self, run: Run) -> keras.Model:
        """The network of the run to fine-tune, with fake quantisation."""

    @abstractmethod
    def trainable(self, network: keras.Model) -> keras.Model:
        """The compiled model that trains the weights of the network of :meth:`to_train`."""

    @abstractmethod
    def epoch(self, model: keras.Model, epoch: int) -> Generator[tuple, None, None]:
        """Inputs and targets of the batches of an epoch."""

    @abstractmethod
    def mine(self, model: keras.Model, epoch: int) -> str:
        """Search for hard examples, and say what was found."""

    @abstractmethod
    def kept(self, model: keras.Model) -> keras.Model:
        """The network with the weights that an epoch leaves."""

    @abstractmethod
    def validate(self, model: keras.Model, kept: keras.Model) -> dict[str, float]:
        """Numbers of an epoch on validation examples, ``loss`` among them."""

    @abstractmethod
    def better(self, now: dict[str, float], best: dict[str, float]) -> bool:
        """Whether an epoch is better than the best so far, by the rows of the log."""
