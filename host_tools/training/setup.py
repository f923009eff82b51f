"""Begins a training: checks everything before it computes, then makes the network, the examples and the record."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from host_tools.config import StageConfig
from host_tools.devices.one import OneDevice
from host_tools.sampling.examples import Examples
from host_tools.training.clips import ClipTask
from host_tools.training.continuation import check_same_identity, check_same_options, checksums, identity, run_in
from host_tools.training.run import PROBLEMS, Run, load_run, write_record
from host_tools.training.sequences import SequenceTask
from host_tools.training.start import check_start, origins
from host_tools.training.task import Task
from host_tools.training.teacher import load_teacher
from kws_edge.files import write_atomically
from kws_edge.presets import preset

__all__ = ["set_up"]

_SHOWN_PROBLEMS = 10


def set_up(
    config: StageConfig, folder: Path, devices: OneDevice, say: Callable[[str], None], *, asked: StageConfig
) -> tuple[Run, Task, keras.Model]:
    """Check everything, load the examples, and write the run's record. Returns the run, its task and its network.

    Parameters
    ----------
    config : StageConfig
    folder : path
        Folder of the run.
    devices : OneDevice
    say : callable
        Takes lines of progress.
    asked : StageConfig
        The configuration for the record. `config` may be a part of it.

    Raises
    ------
    TrainingError, DatasetError
        As :func:`host_tools.training.loop.train`.
    """
    labels, frontend_config = config.network.outputs, preset(config.network.frontend)
    previous = run_in(folder)
    if previous:
        check_same_options(previous, asked)
    check_start(config)
    made_from = identity(config, asked.weights, frontend_config, labels)
    if previous:
        check_same_identity(previous, made_from)
    devices.check_same(checksums(made_from))
    with devices.scope():
        teacher = load_teacher(config.weights.teacher, config.network) if config.weights.teacher else None
    keras.utils.set_random_seed(config.seed)
    task = (SequenceTask if config.network.streams else ClipTask)(config, devices, teacher)
    task.network()  # its errors come before data are read
    examples = task.load()
    _tell(examples, folder, say)
    record = {
        "config": asked.to_dict(),
        "labels": list(labels),
        "front_end": frontend_config.to_dict(),
        **made_from,
        "data": _data(config, examples, labels),
        "versions": {"python": platform.python_version(), "keras": keras.__version__, "numpy": np.__version__},
        "backend": keras.backend.backend(),
        "devices": devices.described(),
        "threads": os.cpu_count(),
    }
    if previous:
        record["best"] = previous.record.get("best", {})
    run = Run(folder, config, record)
    write_record(run)
    write_atomically(folder / PROBLEMS, "".join(f"{line}\n" for line in examples.problems))
    task.keep(run)
    return run, task, task.to_train()


def _tell(examples: Examples[Any], folder: Path, say: Callable[[str], None]) -> None:
    """Say which data are not used, and how much is used."""
    for line in examples.problems[:_SHOWN_PROBLEMS]:
        say(f"note: {line}")
    if (more := len(examples.problems) - _SHOWN_PROBLEMS) > 0:
        say(f"note: {more} more in {folder / PROBLEMS}")
    if files := examples.summary["left_out"]:
        print(f"kws-host: {files} files left out; {folder / PROBLEMS} lists them", file=sys.stderr)
    summary = examples.summary
    for part in ("training", "validation"):
        say(f"{part}: " + ", ".join(f"{label} {n:,}" for label, n in summary[part].items()))
    say(
        f"without keywords: {summary['noise_minutes']:g} minutes of noise, {summary['speech_minutes']:g} of speech, "
        f"{summary['synthetic_minutes']:g} of synthetic speech"
    )


def _data(config: StageConfig, examples: Examples[Any], labels: tuple[str, ...]) -> dict:
    """The summary of the training data, with the origins of the words."""
    optim, start = config.optim, config.weights.start
    data = examples.summary
    if not (optim.epochs or optim.minutes) and start and Path(start).is_dir():
        data = load_run(start).record["data"]  # only that run's data have trained these weights
    return {**data, "origins": origins(config.weights, data, labels)}
