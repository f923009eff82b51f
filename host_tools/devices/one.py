"""One device, as any backend of Keras has it; and what several devices do otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from host_tools.devices.precision import copied, is_mixed
from host_tools.locks import locked

__all__ = ["OneDevice"]


class OneDevice:
    """The device that Keras chooses.

    Parameters
    ----------
    mixed : bool
        Whether models compute in mixed precision.
    """

    number = 1
    """Devices that share a batch."""

    def __init__(self, *, mixed: bool = False) -> None:
        self.mixed = mixed

    def described(self) -> dict[str, Any]:
        """What a run's record says of the devices, JSON-ready."""
        return {"number": self.number, "precision": "mixed" if self.mixed else "float32"}

    @contextlib.contextmanager
    def folder(self, folder: Path) -> Iterator[Path]:
        """The folder that this process writes to: the run's, which a lock keeps for it."""
        with locked(folder):
            yield folder

    def check(self, *, batch_size: int, minutes: float) -> None:
        """Raise an error if the devices cannot train so."""

    def check_same(self, facts: Mapping[str, str]) -> None:
        """Raise an error that names a fact which differs between machines, if any."""

    def scope(self) -> contextlib.AbstractContextManager[None]:
        """Where models are made that :meth:`answers` takes."""
        return contextlib.nullcontext()

    def placed(self, model: keras.Model) -> keras.Model:
        """`model`, which is compiled, with its optimizer's state, for :meth:`step`: here, in the devices' precision."""
        return model if is_mixed(model) == self.mixed else self._copied(model)

    def _copied(self, model: keras.Model) -> keras.Model:
        copy, state = copied(model, mixed=self.mixed), model.optimizer
        copy.compile_from_config(model.get_compile_config())
        if state.built:
            copy.optimizer.build(copy.trainable_variables)
            for own, value in zip(copy.optimizer.variables, state.variables, strict=True):
                own.assign(value.numpy())
        return copy

    def local(self, model: keras.Model) -> keras.Model:
        """A model with the weights of `model` and what it is compiled with, for this process alone."""
        return model

    def step(self, model: keras.Model, x: Any, y: np.ndarray, *, learning_rate: Any) -> dict[str, float]:
        """Train a model of :meth:`placed` on a batch.

        Parameters
        ----------
        model : keras.Model
        x : numpy.ndarray or list of numpy.ndarray
            The inputs of the whole batch, which every process has.
        y : numpy.ndarray
        learning_rate : float

        Returns
        -------
        dict
            The batch's loss and metrics.
        """
        model.optimizer.learning_rate = learning_rate
        return model.train_on_batch(x, y, return_dict=True)

    def answers(self, model: keras.Model, x: Any) -> np.ndarray:
        """The output of a model that was made in :meth:`scope`.

        Parameters
        ----------
        model : keras.Model
            With one output.
        x : numpy.ndarray or list of numpy.ndarray
        """
        return model.predict_on_batch(x)
