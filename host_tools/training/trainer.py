"""Trains epoch after epoch, and keeps the log and the best weights in the run's folder."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

import keras
import numpy as np
from tqdm import tqdm

from host_tools.config import OptimConfig
from host_tools.errors import TrainingError
from host_tools.training.curves import draw_epochs, log_epoch, read_log
from host_tools.training.progress import Progress
from host_tools.training.run import BEST, CONFIG, LAST, Run, write_record
from host_tools.training.task import Task
from kws_edge.files import write_atomically

__all__ = ["Trainer"]


@dataclass
class Trainer:
    """Trains a compiled model.

    Parameters
    ----------
    run : Run
        The run whose folder is written to.
    model : keras.Model
    task : Task
    first : int
        Number of epochs that are done.
    spent_s : float
        Seconds that this call has taken so far.
    say : callable
        Takes lines of progress.
    """

    run: Run
    model: keras.Model
    task: Task
    first: int
    spent_s: float
    say: Callable[[str], None]
    _progress: Progress = field(init=False)
    _counted_s: float = field(init=False)
    """Time that the log tells of."""

    def __post_init__(self) -> None:
        self._counted_s = sum(row["seconds"] for row in read_log(self.run.folder)) if self.first else 0.0
        self._progress = Progress(self._optim, self.first, self._counted_s + self.spent_s)

    @property
    def _optim(self) -> OptimConfig:
        return self.run.config.optim

    def train(self) -> None:
        """Do all epochs that are left.

        Raises
        ------
        TrainingError
            If the time ends before the first batch.
        """
        progress, optim, say = self._progress, self._optim, self.say
        if progress.over and not self.first:
            raise TrainingError(
                f"{optim.minutes:.3g} minutes were over before the first batch; give more --minutes (features are kept)"
            )
        length = f"{optim.minutes:g} minutes" if optim.minutes else f"{optim.epochs} epochs of {optim.steps} batches"
        size = f"{self.run.config.network.model}: {self.model.count_params():,} parameters"
        say(f"{size}, {length}" + (f", from epoch {self.first + 1} on" if self.first else ""))
        weights = self.run.config.weights
        if not self.first and (weights.start or weights.qat):
            row = self._finish(0, [])
            say(f"before training: {_told(row)}")
        epoch = self.first
        try:
            while not progress.over and (optim.minutes or epoch < optim.epochs):
                history = self._epoch(epoch)
                epoch += 1
                row = self._finish(epoch, history)
                numbers = "  ".join(f"{name} {value:.4g}" for name, value in row.items())
                say(f"{numbers}  {_time_left(progress.left_s)}")
        except KeyboardInterrupt:
            folder = self.run.folder
            if (folder / BEST).exists():
                line = f"kept: epoch {epoch} of {folder}; the same command goes on"
                say(f"{line}, kws-host quantize {folder} takes it as it is")
            raise
        best = self.run.record.get("best")
        if not best:  # no epoch was left to train
            path = self.run.folder / CONFIG
            raise TrainingError(f"{path}: broken (it names no best epoch); remove {self.run.folder} to start anew")
        say(f"best epoch {best['epoch']}: {_told(best)}")

    def _epoch(self, epoch: int) -> list[dict[str, float]]:
        """Train on an epoch's batches, or on as many as time allows. Returns loss and accuracy of each batch."""
        optim = self._optim
        if self.run.config.mix.mined:
            self.say(f"hard: {self.task.mine(self.model, epoch)}")
        _seed_dropout(self.model, self.run.config.seed, epoch)
        history = []
        with _bar(optim, epoch) as bar, closing(self.task.epoch(self.model, epoch)) as made:
            for x, y in made:
                history.append(self.task.devices.step(self.model, x, y, learning_rate=self._progress.learning_rate()))
                self._progress.step()
                bar.update()
                bar.set_postfix_str(_time_left(self._progress.left_s), refresh=False)
                if self._progress.over:
                    break
        return history

    def _finish(self, epoch: int, history: list[dict[str, float]]) -> dict[str, float]:
        """Validate, and keep the results of an epoch. Returns its row in the log."""
        kept = self.task.kept(self.model)
        found = self.task.validate(self.model, kept)
        before_s, self._counted_s = self._counted_s, self._progress.used_s
        row = {
            "epoch": epoch,
            **{name: float(np.mean([one[name] for one in history] or [math.nan])) for name in self.task.metrics},
            **{f"val_{name}": value for name, value in found.items()},
            "seconds": self._counted_s - before_s,
        }
        self._keep(kept, row)
        return row

    def _keep(self, kept: keras.Model, row: dict[str, float]) -> None:
        """Keep the log, the best weights and the state to go on from, each file whole or not at all."""
        run, best = self.run, self.run.record.get("best")
        rows = log_epoch(run.folder, row)
        if not best or self._optim.keep == "last" or self.task.better(row, best):
            write_atomically(run.folder / BEST, kept.save)
            numbers = {name: round(value, 5) for name, value in row.items() if name.startswith("val_")}
            run.record["best"] = {"epoch": row["epoch"], **numbers}
            write_record(run)
        if row["epoch"]:
            write_atomically(run.folder / LAST, self.model.save)
        draw_epochs(run.folder, rows)


def _told(row: dict[str, float]) -> str:
    """The validation numbers of an epoch, for people."""
    return "validation " + ", ".join(
        f"{name.removeprefix('val_').replace('_', ' ')} {_number(name, value)}"
        for name, value in row.items()
        if name.startswith("val_")
    )


def _number(name: str, value: float) -> str:
    if "false_accepts" in name:
        return f"{value:.3g}/h"
    return f"{value:.4f}" if name == "val_loss" else f"{value:.2%}"


def _bar(optim: OptimConfig, epoch: int) -> tqdm:
    name = f"epoch {epoch + 1}" + ("" if optim.minutes else f"/{optim.epochs}")
    return tqdm(total=optim.steps, desc=name, unit="batch", mininterval=1, leave=False, disable=None)


def _time_left(seconds: float) -> str:
    return f"{math.ceil(seconds / 60)} min left" if seconds > 90 else f"{math.ceil(seconds)} s left"


def _seed_dropout(model: keras.Model, seed: int, epoch: int) -> None:
    """Seed dropout by the epoch. Keras does not store the state of its generators, so a continued run needs this."""
    for i, layer in enumerate(model.layers):
        if isinstance(layer, keras.layers.Dropout) and layer.rate:  # includes spatial dropout, a subclass
            state = np.random.default_rng((seed, epoch, i)).integers(2**32, size=2, dtype=np.uint32)
            layer.seed_generator.state.assign(state.astype(layer.seed_generator.state.dtype))
