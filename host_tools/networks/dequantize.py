"""Sets a float network from the weights of an INT8 model file, so that you can train it further."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from host_tools.errors import TrainingError
from host_tools.networks.layers import LevelConv2D
from host_tools.networks.qat import norm_after
from host_tools.networks.weight_import import set_head
from kws_edge.config import FrontendConfig
from kws_edge.errors import KwsError
from kws_edge.model.model import Model

__all__ = ["load_int8"]

Array = NDArray[np.float32]
_OPERATORS = (
    (keras.layers.DepthwiseConv2D, "DEPTHWISE_CONV_2D"),
    (keras.layers.Conv2D, "CONV_2D"),
    (keras.layers.Dense, "FULLY_CONNECTED"),
)


def load_int8(
    model: keras.Model,
    path: str | Path,
    frontend_config: FrontendConfig,
    inputs: Array,
    labels: Sequence[str],
) -> list[str]:
    """Set the weights of `model`, which our own code built, from an INT8 file of the same network.

    Layers are paired by kind, shape and order. In the file batch norm is folded into the convolutions. So each norm
    takes its mean and variance from `inputs`, and a scale and offset that undo them. The network then computes what the
    file computes, in inference and (on such inputs) in training. Batch norm cancels a kernel's scale. So every filter
    gets the scale of He's initialisation, which suits the steps of an optimizer.

    Parameters
    ----------
    model : keras.Model
    path : path
        A model file, or the name of a shipped one.
    frontend_config : FrontendConfig
        Front end of `model`. The file's must be equal.
    inputs : numpy.ndarray, shape (n, *frontend_config.feature_shape, 1), float32
        Some hundreds of training examples.
    labels : sequence of str
        Labels of `model`. If the file has others, :func:`host_tools.networks.weight_import.set_head` sets the last
        layer.

    Returns
    -------
    list of str
        Names of labels and dense layers that the file does not set.

    Raises
    ------
    TrainingError
        If the file cannot be read, is not INT8, has another front end, or lacks a convolution of `model`.
    """
    try:
        file = Model(path, kernels="builtin")
    except KwsError as error:
        raise TrainingError(str(error)) from None
    if file.frontend_config != frontend_config:
        raise TrainingError(f"{path}: has another front end than the one to train with; its weights do not fit it")
    saved = [(kind, *_weights(file, kind, tensors)) for kind, tensors, _ in file.flat.weighted]
    layers, new = list(model.layers), []
    if file.labels != tuple(labels):
        *saved, (_, kernel, bias) = saved
        new = set_head(model, kernel, bias, file.labels, labels)
        layers.pop()
    return new + _set_layers(model, layers, saved, inputs, path)


def _set_layers(
    model: keras.Model,
    layers: Sequence[keras.Layer],
    saved: list[tuple[str, Array, Array]],
    inputs: Array,
    path: str | Path,
) -> list[str]:
    """Set each layer from the first of its kind and shape in `saved`. Returns names of dense layers without one."""
    norms, left = norm_after(model), []
    for layer in layers:
        kind = next((kind for of, kind in _OPERATORS if isinstance(layer, of)), None)
        if kind is None:
            continue
        shape = tuple(layer.kernel.shape)
        place = next((i for i, (other, kernel, _) in enumerate(saved) if (other, kernel.shape) == (kind, shape)), None)
        if place is not None:
            _, kernel, bias = saved.pop(place)
            if layer.name in norms:
                _set_normalised(model, layer, norms[layer.name], kernel, bias, inputs)
            else:
                layer.set_weights([kernel, bias])
        elif kind == "FULLY_CONNECTED":
            left.append(layer.name)
        else:
            raise TrainingError(f"{path}: no convolution like {layer.name} {shape} in it; is it of another network?")
    return left


def _weights(file: Model, kind: str, tensors: tuple[int, ...]) -> tuple[Array, Array]:
    """Kernel and bias of an operator in floating point. The kernel has Keras's layout."""
    kernel, bias = (_real(file, number) for number in tensors[1:3])
    order = {"DEPTHWISE_CONV_2D": (1, 2, 3, 0), "CONV_2D": (1, 2, 3, 0), "FULLY_CONNECTED": (1, 0)}
    return kernel.transpose(order[kind]), bias


def _real(file: Model, number: int) -> Array:
    """Values of a constant tensor in floating point."""
    native = file.interpreter.native
    details = next(d for d in native.get_tensor_details() if d["index"] == number)["quantization_parameters"]
    values, scales = native.get_tensor(number), details["scales"]
    if not len(scales):
        raise TrainingError(
            f"{file.path}: {file.flat.tensors[number].name!r} is not quantised; start from an INT8 file"
        )
    shape = np.ones(values.ndim, int)
    shape[details["quantized_dimension"]] = len(scales)
    return (values * scales.reshape(shape).astype(np.float64)).astype(np.float32)


def _set_normalised(model: keras.Model, layer, norm, kernel: Array, bias: Array, inputs: Array) -> None:
    """Set a convolution and its batch norm, such that folding them gives `kernel` and `bias`."""
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    level = isinstance(layer, LevelConv2D)
    step, middle = (2 / (layer.high - layer.low), (layer.high + layer.low) / 2) if level else (1.0, 0.0)
    taps = (0, 1) if depthwise else (0, 1, 2)
    scale = np.sqrt(np.maximum(np.square(kernel).sum(axis=taps, keepdims=True) / 2, 1e-12))  # He: variance 2 / taps
    layer.set_weights([kernel / scale])
    outputs = keras.Model(model.inputs, layer.output).predict(inputs, batch_size=100, verbose=0)
    mean, variance = outputs.mean(axis=(0, 1, 2), dtype=np.float64), outputs.var(axis=(0, 1, 2), dtype=np.float64)
    factor = scale.ravel() / step
    offset = bias + kernel.sum(axis=taps).ravel() * middle
    norm.set_weights([factor * np.sqrt(variance + norm.epsilon), offset + factor * mean, mean, variance])
