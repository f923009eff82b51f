"""Distillation: the posteriors of networks teach another network."""

from __future__ import annotations

import keras

from host_tools.config import NetworkConfig
from host_tools.errors import TrainingError
from host_tools.networks.models import build
from host_tools.networks.streaming import answer_frames
from host_tools.training.run import Run, load_run
from kws_edge.presets import preset

__all__ = ["load_teacher"]


def load_teacher(names: str, network: NetworkConfig) -> keras.Model:
    """The network whose posteriors teach. If it has state, its only output are the scores.

    Parameters
    ----------
    names : str
        Folders of runs, separated by commas. The mean of their posteriors teaches.
    network : NetworkConfig
        Of the network that learns.

    Raises
    ------
    TrainingError
        If a run has another front end, other labels or another form. With state, also if it answers at other steps, or
        if there are several.
    """
    frontend_config = preset(network.frontend)
    teachers = [load_run(folder) for folder in names.split(",")]
    for teacher in teachers:
        if teacher.frontend_config != frontend_config or teacher.labels != network.outputs:
            raise TrainingError(
                f"{teacher.folder}: a teacher needs the front end and the labels of the network it teaches"
            )
        if teacher.config.network.streams != network.streams:
            form = "with" if network.streams else "without"
            raise TrainingError(f"{teacher.folder}: a network {form} state learns from one {form} state")
    if network.streams:
        if len(teachers) > 1:
            raise TrainingError(f"{names}: a network with state learns from one teacher")
        return _scores(teachers[0], network)
    if len(teachers) == 1:
        return teachers[0].model()
    models = [teacher.model() for teacher in teachers]
    for i, model in enumerate(models):
        model.name = f"teacher{i}"  # as a layer of a network, each model needs a name of its own
    inputs = keras.Input((*frontend_config.feature_shape, 1))
    return keras.Model(inputs, keras.layers.Average()([model(inputs) for model in models]))


def _scores(teacher: Run, network: NetworkConfig) -> keras.Model:
    """The scores of a network with state, without its next states."""
    model = teacher.model()
    built = build(network.model, teacher.frontend_config, len(network.outputs), width=network.width)
    theirs, own = answer_frames(model), answer_frames(built)
    if theirs != own:
        raise TrainingError(
            f"{teacher.folder}: answers every {theirs} frames, {network.model} every {own}; they must be the same"
        )
    return keras.Model(model.inputs, model.outputs[0])
