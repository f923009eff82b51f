"""Distillation: the posteriors of networks teach another network."""

from __future__ import annotations

import keras

from host_tools.errors import TrainingError
from host_tools.training.run import load_run
from kws_edge.config import FrontendConfig

__all__ = ["load_teacher"]


def load_teacher(names: str, frontend_config: FrontendConfig, labels: tuple[str, ...]) -> keras.Model:
    """The network whose posteriors teach.

    Parameters
    ----------
    names : str
        Folders of runs, separated by commas. The mean of their posteriors teaches.
    frontend_config : FrontendConfig
    labels : tuple of str

    Raises
    ------
    TrainingError
        If a run has another front end or other labels.
    """
    teachers = [load_run(folder) for folder in names.split(",")]
    for teacher in teachers:
        if teacher.frontend_config != frontend_config or teacher.labels != labels:
            raise TrainingError(
                f"{teacher.folder}: a teacher needs the front end and the labels of the network it teaches"
            )
    if len(teachers) == 1:
        return teachers[0].model()
    models = [teacher.model() for teacher in teachers]
    for i, model in enumerate(models):
        model.name = f"teacher{i}"  # as a layer of a network, each model needs a name of its own
    inputs = keras.Input((*frontend_config.feature_shape, 1))
    return keras.Model(inputs, keras.layers.Average()([model(inputs) for model in models]))
