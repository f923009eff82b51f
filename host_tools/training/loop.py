"""Training: makes a run folder from a configuration, with the best weights, the log and the record."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from host_tools.config import StageConfig
from host_tools.devices.one import OneDevice
from host_tools.errors import TrainingError
from host_tools.training.run import Run
from host_tools.training.setup import set_up
from host_tools.training.start import start
from host_tools.training.trainer import Trainer
from host_tools.training.words_first import WORDS, two_parts

__all__ = ["train"]


def train(
    config: StageConfig,
    folder: str | Path,
    *,
    devices: OneDevice | None = None,
    say: Callable[[str], None] = print,
) -> Run:
    """Train a network, or continue an interrupted or lengthened run of the same configuration.

    A lock keeps other processes from training in the folder.

    Parameters
    ----------
    config : StageConfig
    folder : path
        The run's folder, made if it does not exist.
    devices : OneDevice, optional
        Those of :func:`host_tools.devices.join.joined`; default: one. Rank 0 of several machines writes the folder.
        Others write to a folder that is removed at the end.
    say : callable
        Takes lines of progress.

    Raises
    ------
    TrainingError
        If the folder holds a run of another configuration, or the configuration cannot be trained.
    DatasetError
        If the data cannot be used.
    BusyError
        If another process trains there.
    WriteError
        If the folder cannot be written.
    """
    folder, devices = Path(folder), devices or OneDevice()
    devices.check(batch_size=config.optim.batch_size, minutes=config.optim.minutes)
    _check_apart(config, folder)
    with devices.folder(folder) as own:
        parts = two_parts(config, own)
        if parts is None:
            return _train(config, own, devices, say, asked=config)
        say(f"to begin with, {parts[0].network.labels.count(',') + 1} words are told apart")
        _train(parts[0], own / WORDS, devices, say, asked=parts[0])
        return _train(parts[1], own, devices, say, asked=config)


def _check_apart(config: StageConfig, folder: Path) -> None:
    """Raise an error if the run or its cache lay in a folder of data, which would be other data from then on."""
    for place, option in ((folder, "-o"), (config.data.cache, "--cache")):
        for data in (one for folders in config.data.folders().values() for one in folders):
            if place is not None and Path(place).resolve().is_relative_to(data.resolve()):
                raise TrainingError(
                    f"{place}: lies in {data}, which is data to train on; name another place with {option}"
                )


def _train(
    config: StageConfig, folder: Path, devices: OneDevice, say: Callable[[str], None], *, asked: StageConfig
) -> Run:
    """Train. If `config` is a part of a training, `asked` is the whole, which the record names."""
    started = time.monotonic()
    run, task, network = set_up(config, folder, devices, say, asked=asked)
    model, first = start(run, task, network, say)
    Trainer(run, model, task, first, time.monotonic() - started, say).train()
    return run
