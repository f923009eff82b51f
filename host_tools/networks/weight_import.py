"""Copies weights from one network into another, and reads them from files of every Keras format.

A file may come from anywhere, so only its arrays are used. Its configuration is ignored, because Keras would build what
it names, and run the code in it. Nothing is unpacked to disk. HDF5's ways out of the file (links, external and virtual
data) are refused. Arrays are checked before they are read. A process of its own with a deadline reads them; see
:mod:`host_tools.networks.hdf5`.

The layouts are those of Keras's ``saving_lib`` (``.keras``, ``.weights.h5``) and ``legacy_h5_format`` (``.h5``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from host_tools.errors import TrainingError
from host_tools.networks.hdf5 import Layer, read_weights
from kws_edge.labels import UNKNOWN

__all__ = ["load_weights", "set_head", "transfer"]

_NEW_LOGIT = 3.0
"""The logit of a new label begins this much below that of unknown words."""


def transfer(source: keras.Model, target: keras.Model) -> list[str]:
    """Copy the weights of every layer of `source` that `target` has by the same name and shapes.

    Returns
    -------
    list of str
        Names of layers of `target` whose weights were not set.

    Raises
    ------
    TrainingError
        If no layer has the same name and shapes.
    """
    by_name = {layer.name: layer.get_weights() for layer in source.layers}
    left = []
    layers = [layer for layer in target.layers if layer.weights]
    for layer in layers:
        weights = by_name.get(layer.name, [])
        if [w.shape for w in weights] == [tuple(w.shape) for w in layer.weights]:
            layer.set_weights(weights)
        else:
            left.append(layer.name)
    if len(left) == len(layers):
        raise TrainingError(f"{source.name} and {target.name} have no layer in common")
    return left


def set_head(
    model: keras.Model,
    kernel: NDArray[np.float32],
    bias: NDArray[np.float32],
    known: Sequence[str],
    labels: Sequence[str],
) -> list[str]:
    """Set the last layer of `model` from that of a network with other labels.

    A label that both networks have keeps its weights. Any other label was unknown so far. It begins as a less likely
    ``unknown``. If ``unknown`` is no label, it begins as the mean of all labels.

    Parameters
    ----------
    model : keras.Model
    kernel : numpy.ndarray, shape (channels, len(known))
    bias : numpy.ndarray, shape (len(known),)
    known, labels : sequence of str
        Labels of the other network, and of `model`.

    Returns
    -------
    list of str
        Labels that are new. If the layer does not fit, its name.
    """
    head = model.layers[-1]
    if kernel.shape != (head.kernel.shape[0], len(known)):
        return [head.name]
    like = [known.index(UNKNOWN)] if UNKNOWN in known else list(range(len(known)))
    columns = {name: (kernel[:, i], bias[i]) for i, name in enumerate(known)}
    new = (kernel[:, like].mean(axis=1), bias[like].mean() - _NEW_LOGIT)
    kernels, biases = zip(*(columns.get(label, new) for label in labels), strict=True)
    head.set_weights([np.stack(kernels, axis=1), np.stack(biases)])
    return [label for label in labels if label not in columns]


def load_weights(model: keras.Model, path: str | Path) -> list[str]:
    """Set the weights of `model`, which our own code built, from a file in any of Keras's formats.

    Layers of the file and of the network are paired by name or by order. By order, the first convolution is paired with
    the first convolution and so on, if both have equally many layers of every kind. The pairing in which more layers
    agree in shape is taken, or that by name if both are equal. So a file of the same network loads completely, whatever
    the names of its layers. A file of a related network loads as far as it agrees.

    If anything is wrong with the file, no layer is set.

    Returns
    -------
    list of str
        Names of layers of `model` whose weights were not set.

    Raises
    ------
    TrainingError
        If the file is missing, is damaged, has another format, may be harmful, or holds weights that are not finite. Or
        if none of its layers fits.
    """
    path = Path(path)
    limit = 8 * 4 * model.count_params() + 2**26  # bytes: an optimizer keeps two more values per weight
    own = [layer for layer in model.layers if layer.weights]
    layers = [Layer(x.name, type(x).__name__.lower(), [tuple(w.shape) for w in x.weights]) for x in own]
    try:
        weights = read_weights(path, layers, limit=limit)
    except TrainingError as error:
        raise TrainingError(f"{path}: {error}") from None
    for number, values in weights.items():
        for variable, value in zip(own[number].weights, values, strict=True):
            variable.assign(value)
    return [layer.name for number, layer in enumerate(own) if number not in weights]
