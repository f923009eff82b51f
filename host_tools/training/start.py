"""The weights that a run starts from: those of a run or a file, an average of two, or those of its own last epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from host_tools.config import NetworkConfig, StageConfig, WeightsConfig
from host_tools.data.origins import origins_of
from host_tools.errors import TrainingError, broken
from host_tools.networks.weight_import import load_weights
from host_tools.training.run import DAMAGE, LAST, Run, load_run
from host_tools.training.task import Task
from kws_edge.config import FrontendConfig
from kws_edge.errors import KwsError
from kws_edge.model.file import unpack
from kws_edge.model.model import shipped_models
from kws_edge.presets import preset

__all__ = ["blend", "check_start", "origins", "start", "weight_files"]

_BACKENDS = ("tensorflow", "jax", "torch")


def check_start(config: StageConfig) -> None:
    """Raise an error if Keras cannot train here, or if the weights to start from are missing or cannot fit."""
    weights = config.weights
    if keras.backend.backend() not in _BACKENDS:
        raise TrainingError(
            f"Keras's backend {keras.backend.backend()} cannot train; set KERAS_BACKEND to {', '.join(_BACKENDS)}"
        )
    if weights.start and not Path(weights.start).exists() and weights.start not in shipped_models():
        raise TrainingError(f"{weights.start}: no such run and no such file of weights to start from")
    if _is_int8(weights.start):
        _check_file(weights.start, preset(config.network.frontend))
    elif weights.start and Path(weights.start).is_dir():
        _check_run(load_run(weights.start), config.network)
    if weights.qat and load_run(weights.qat).config.weights.qat:
        raise TrainingError(f"{weights.qat}: is a run with fake quantisation itself; name the float run that it is of")


def _check_file(name: str, frontend_config: FrontendConfig) -> None:
    """Raise an error unless a training with this front end can start from the model file."""
    try:
        _, metadata = unpack(Path(shipped_models().get(name, name)).read_bytes(), name)
    except OSError as error:
        raise TrainingError(f"{name}: {error.strerror}") from None
    except KwsError as error:
        raise TrainingError(str(error)) from None
    if metadata is None:
        raise TrainingError(f"{name}: says nothing of its labels and front end; start from a file that kws-host made")
    if metadata.step is not None:
        raise TrainingError(f"{name}: is of a network with state; start from the run that it was made of")
    if metadata.frontend_config != frontend_config:
        raise TrainingError(f"{name}: has another front end than the one to train with; its weights do not fit it")


def _check_run(parent: Run, network: NetworkConfig) -> None:
    """Raise an error if one of both networks has state, and it cannot get the weights of the other."""
    its = parent.config.network
    if its.streams and (its.model, its.width) != (network.model, network.width):
        raise TrainingError(
            f"{parent.folder}: is of {its.model} of width {its.width:g}, not {network.model} of width "
            f"{network.width:g}; give --model {its.model} --width {its.width:g}, or another --start"
        )


def weight_files(config: WeightsConfig) -> dict[str, tuple[Path, ...]]:
    """The files that a run starts from, and those of the networks that it learns from, by option.

    Raises
    ------
    TrainingError
        If one is no run's, or of a run without weights.
    """
    runs = {"blend": [config.blend], "teacher": config.teacher.split(","), "qat": [config.qat]}
    found = {
        name: tuple(load_run(folder).weights_file() for folder in folders)
        for name, folders in runs.items()
        if any(folders)
    }
    if not config.start:
        return found
    if not _is_int8(config.start) and Path(config.start).is_dir():
        return {"start": (load_run(config.start).weights_file(),), **found}
    return {"start": (Path(shipped_models().get(config.start, config.start)),), **found}


def start(run: Run, task: Task, network: keras.Model, say: Callable[[str], None]) -> tuple[keras.Model, int]:
    """The model to train, and the number of epochs that are done.

    Parameters
    ----------
    run : Run
        If its last finished epoch left a model, that model is returned.
    task : Task
    network : keras.Model
        The network that otherwise gets the weights to start from. Fine-tuning with fake quantisation ignores it.
    say : callable
        Takes lines of progress.

    Raises
    ------
    TrainingError
        If the weights cannot be used.
    """
    config, optim = run.config.weights, run.config.optim
    last = run.folder / LAST
    if last.exists():
        try:
            model = keras.models.load_model(last)
            return task.devices.placed(model), int(model.optimizer.iterations) // optim.steps
        except DAMAGE as error:
            raise TrainingError(f"{broken(last, error)}; remove {run.folder} to start anew") from None
    model = network
    if config.qat:
        model = task.quantisation_aware(run)
    if config.start:
        left = _take_over(model, run, task)
        say(f"weights from {config.start}" + (f"; new: {', '.join(left)}" if left else ""))
    if config.blend:
        blend(model, load_run(config.blend), config.blend_share)
        say(f"and {config.blend_share:.0%} of {config.blend}")
    if config.log_prior:
        _shift_logits(model, run.labels, config.shifts)
    return task.devices.placed(task.trainable(model)), 0


def _take_over(model: keras.Model, run: Run, task: Task) -> list[str]:
    """Set the weights that the run starts from. Returns the names of layers and labels that they do not set."""
    name = run.config.weights.start
    if _is_int8(name):
        return task.load_int8(model, name, run)
    if not Path(name).is_dir():
        return load_weights(model, name)
    return task.load_run(model, load_run(name))


def _is_int8(name: str) -> bool:
    return name in shipped_models() or name.lower().endswith(".tflite")


def origins(config: WeightsConfig, data: dict, labels: tuple[str, ...]) -> list[str]:
    """Origins of the words that train, and of those that trained the weights to start from.

    Parameters
    ----------
    config : WeightsConfig
    data : dict
        The summary of the examples.
    labels : tuple of str
    """
    found = [*origins_of(data, labels)]
    for folder in filter(None, (config.qat, config.blend, config.start)):
        if Path(folder).is_dir():
            found += load_run(folder).origins
    if config.start and not Path(config.start).is_dir():
        licence = ""
        if _is_int8(config.start):
            path = Path(shipped_models().get(config.start, config.start))
            _, metadata = unpack(path.read_bytes(), config.start)
            licence = f" ({metadata.licence})" if metadata and metadata.licence else ""
        found.append(f"weights of {Path(config.start).name}{licence}")
    return list(dict.fromkeys(found))


def blend(model: keras.Model, run: Run, share: float) -> None:
    """Average the weights with those of a run that was fine-tuned from the same ones.

    The average often keeps what both have learnt (Wortsman et al., "Model soups", 2022). Weights behind a batch norm
    can only be averaged if both norms have the same statistics. So the other norm first gets the statistics of this
    one. Its scale and offset are changed so that it computes the same as before.
    """
    other = run.model()
    if [w.shape for w in model.get_weights()] != [w.shape for w in other.get_weights()]:
        raise TrainingError(f"{run.folder}: another network; only weights of the same shapes can be averaged")
    for own, norm in zip(model.layers, other.layers, strict=True):
        if isinstance(own, keras.layers.BatchNormalization):
            (_, _, mean, variance), (scale, offset, its_mean, its_variance) = own.get_weights(), norm.get_weights()
            factor = scale / np.sqrt(its_variance + norm.epsilon)
            scale = factor * np.sqrt(variance + own.epsilon)
            norm.set_weights([scale, offset + factor * (mean - its_mean), mean, variance])
    pairs = zip(model.get_weights(), other.get_weights(), strict=True)
    model.set_weights([(1 - share) * a + share * b for a, b in pairs])


def _shift_logits(model: keras.Model, labels: tuple[str, ...], shifts: dict[str, float]) -> None:
    kernel, bias = model.layers[-1].get_weights()
    for label, value in shifts.items():
        bias[labels.index(label)] += value
    model.layers[-1].set_weights([kernel, bias])
