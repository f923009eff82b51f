"""Quantisation-aware training: a copy of a float network that computes as its INT8 form will.

Batch norm is folded into the convolutions first. Weights are rounded to the grid that the converter will use, per
output channel (dense layers: per tensor). Activations are rounded within ranges that are learned. Gradients pass the
rounding as if it were not there (Jacob et al., Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference, 2018). Gradients of clipped values reach the range (Choi et al., PACT, 2018). All
operations are Keras's, so the copy trains on every backend. Only :func:`export_model` needs TensorFlow.
"""

from __future__ import annotations

from collections import defaultdict

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from host_tools.errors import TrainingError
from host_tools.networks.layers import LevelConv2D, Span

__all__ = ["export_model", "is_quantisation_aware", "quantisation_aware"]

_STEPS = 255  # steps of an activation's range
_WEIGHT_STEPS = 127  # steps of weights on either side of zero
_SMALLEST = 1e-6  # smallest range, so that nothing is divided by zero
_USUAL = {
    "groups": 1,
    "depth_multiplier": 1,
    "data_format": "channels_last",
    "max_value": None,
    "negative_slope": 0,
    "threshold": 0,
    "keepdims": False,
}
"""Settings of layers that have a quantised form."""
_WEIGHTED = (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)


def _through(rounded, exact):
    """`rounded`, with the gradient of `exact`."""
    return exact + ops.stop_gradient(rounded - exact)


@keras.saving.register_keras_serializable("kws_edge")
class FakeQuant(layers.Layer):
    """Rounds activations to 256 levels of a range, after a rectifier if `relu`.

    Parameters
    ----------
    low, high : float
        The range to start from.
    relu : bool
    learn : bool
        Whether `high` is trained. `low` stays; it is 0 for rectified activations.
    """

    def __init__(self, *, low: float = 0.0, high: float = _SMALLEST, relu: bool = True, learn: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.settings = {"low": low, "high": high, "relu": relu, "learn": learn}
        self.observing = False
        self.exported_range: tuple[float, float] | None = None

    def build(self, input_shape) -> None:
        settings, constant = self.settings, keras.initializers.Constant
        self.low = self.add_weight((), constant(settings["low"]), name="low", trainable=False)
        self.high = self.add_weight((), constant(settings["high"]), name="high", trainable=settings["learn"])
        self.built = True

    def call(self, x):
        if self.settings["relu"]:
            x = ops.relu(x)
        if self.observing:
            self.low.assign(ops.minimum(self.low, ops.min(x)))
            self.high.assign(ops.maximum(self.high, ops.max(x)))
            return x
        if self.exported_range:
            import tensorflow as tf

            return tf.quantization.fake_quant_with_min_max_args(x, *self.exported_range)
        # Zero is a level, as TFLite demands, and the ends move with it.
        high = ops.maximum(self.high, _SMALLEST)
        step = (high - self.low) / _STEPS
        zero = ops.round(self.low / step)
        low = _through(zero * step, self.low)
        x = ops.minimum(ops.maximum(x, low), low + (high - self.low))
        return _through((ops.round(x / step - zero) + zero) * step, x)

    def get_config(self) -> dict:
        return {**super().get_config(), **self.settings}


class _Quantised(layers.Layer):
    """A layer with bias and a rounded kernel. Along `axes` of the kernel, values share a scale.

    Folding makes some kernels tiny: the first one takes levels of 0 to 255. But an optimizer's steps have the same size
    for all kernels. So the trained weights are the kernel divided by its largest values at the start.
    """

    axes: tuple[int, ...]

    def __init__(self, *, kernel_shape, units: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.kernel_shape, self.units = tuple(kernel_shape), units
        self.exporting = False

    def build(self, input_shape) -> None:
        self.kernel = self.add_weight(self.kernel_shape, name="kernel")
        self.bias = self.add_weight((self.units,), "zeros", name="bias")
        shape = [1 if axis in self.axes else n for axis, n in enumerate(self.kernel_shape)]
        self.largest = self.add_weight(shape, "ones", name="largest", trainable=False)
        self.built = True

    def set_folded(self, kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
        """Take a float layer's kernel and bias."""
        largest = np.maximum(np.abs(kernel).max(axis=self.axes, keepdims=True), 1e-9)
        self.set_weights([kernel / largest, bias, largest])

    def rounded_kernel(self):
        if self.exporting:  # `bake` has rounded the kernel
            return self.kernel
        kernel = self.kernel * self.largest
        step = ops.maximum(ops.max(ops.abs(kernel), axis=self.axes, keepdims=True), 1e-9) / _WEIGHT_STEPS
        return _through(ops.round(kernel / step) * step, kernel)

    def effective_bias(self, kernel):
        return self.bias

    def bake(self) -> None:
        """Set the kernel to its rounded values and the bias to its effective ones."""
        kernel = self.rounded_kernel()
        bias = self.effective_bias(kernel)
        self.kernel.assign(kernel)
        self.bias.assign(bias)
        self.exporting = True

    def get_config(self) -> dict:
        return {**super().get_config(), "kernel_shape": self.kernel_shape, "units": self.units}


@keras.saving.register_keras_serializable("kws_edge")
class QuantConv2D(_Quantised):
    """Convolution (`depthwise`: per channel) with folded batch norm and rounded weights.

    :class:`host_tools.networks.models.LevelConv2D` subtracts `middle` from its input. Here the bias subtracts `middle`
    times the sum of the rounded weights. So their rounding errors do not add up over the levels' mean.
    """

    def __init__(
        self, *, strides, padding: str, depthwise: bool, dilation=(1, 1), middle: float = 0.0, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        self.settings = {"strides": tuple(strides), "padding": padding, "depthwise": depthwise, "middle": middle}
        self.settings["dilation"] = tuple(dilation)
        self.axes = (0, 1, 3) if depthwise else (0, 1, 2)

    def call(self, x):
        kernel = self.rounded_kernel()
        conv = ops.depthwise_conv if self.settings["depthwise"] else ops.conv
        settings = {name: self.settings[name] for name in ("strides", "padding")}
        y = conv(x, kernel, dilation_rate=self.settings["dilation"], **settings)
        return y + self.effective_bias(kernel)

    def effective_bias(self, kernel):
        if self.exporting or not self.settings["middle"]:
            return self.bias
        return self.bias - ops.sum(kernel, axis=self.axes) * self.settings["middle"]

    def get_config(self) -> dict:
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("kws_edge")
class QuantDense(_Quantised):
    """Dense layer with weights rounded per tensor."""

    axes = (0, 1)

    def call(self, x):
        return ops.matmul(x, self.rounded_kernel()) + self.bias


def is_quantisation_aware(model: keras.Model) -> bool:
    """Whether `model` comes from :func:`quantisation_aware`."""
    return any(isinstance(layer, FakeQuant) for layer in model.layers)


def quantisation_aware(model: keras.Model, calibration: NDArray[np.float32]) -> keras.Model:
    """The same network, which rounds as its INT8 form will.

    Parameters
    ----------
    model : keras.Model
        It may have pooling, sums, dense layers with or without ReLU, and convolutions. Each convolution has ReLU as its
        activation, or ReLU follows it, with or without batch norm between. The last layer is a dense softmax. Or it is
        a network with state; see :mod:`host_tools.networks.streaming`.
    calibration : numpy.ndarray, shape (n, frames, mels, 1) or (n, frames, 1, mels), float32
        Examples, or sequences, that set the ranges of activations to start from.

    Raises
    ------
    TrainingError
        If a layer has no quantised form.
    """
    norms, takers = norm_after(model), _takers(model)
    inputs = [keras.Input(one.shape[1:], name=one.name) for one in model.inputs]
    low, high = float(calibration.min()), float(calibration.max())
    levels = FakeQuant(low=low, high=high, relu=False, learn=False, name="levels_range")
    tensors = {id(one): own for one, own in zip(model.inputs, inputs, strict=True)}
    tensors[id(model.inputs[0])] = levels(inputs[0])
    for layer in model.layers:
        if not isinstance(layer, layers.InputLayer):
            _check_usual(model, layer)
            after = takers[id(norms.get(layer.name, layer).output)]
            tensors[id(layer.output)] = _quantised(model, layer, [tensors[id(t)] for t in _inputs_of(layer)], after)
    outputs = [tensors[id(one)] for one in model.outputs]
    ends = (inputs, outputs) if len(inputs) > 1 else (inputs[0], outputs[0])
    aware = keras.Model(*ends, name=model.name)
    for layer in model.layers:
        if isinstance(layer, _WEIGHTED):
            aware.get_layer(layer.name).set_folded(*_folded(layer, norms.get(layer.name)))
    if len(inputs) == 1:
        _positive_logits(aware, model, calibration)
    _observe(aware, calibration)
    return aware


def _check_usual(model: keras.Model, layer) -> None:
    """Raise an error if a setting of a layer has no quantised form."""
    if strange := next((f"{k}={v}" for k in _USUAL if (v := getattr(layer, k, _USUAL[k])) != _USUAL[k]), None):
        raise TrainingError(f"{model.name}: no quantised form of the layer {layer.name!r} with {strange}")


def _quantised(model: keras.Model, layer, arguments: list, takers: list):
    """What the quantised form of `layer` makes of `arguments`.

    Parameters
    ----------
    model, layer : keras.Model, keras.Layer
    arguments : list of tensors
    takers : list
        Layers that take the output of the layer, or of the batch norm after it.
    """
    x, name = arguments[0], layer.name
    if isinstance(layer, layers.BatchNormalization | layers.Dropout | layers.SpatialDropout2D):
        return x  # the layer is folded, or does nothing in the few epochs of fine-tuning
    if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
        y = _conv(layer)(x)
        if layer.activation is keras.activations.relu:
            return FakeQuant(name=f"{name}_range")(y)
        if not all(map(_is_relu, takers)):
            raise TrainingError(f"{model.name}: no quantised form of the convolution {name!r} without a ReLU after it")
        return y
    if _is_relu(layer):
        return FakeQuant(name=name)(x)
    if isinstance(layer, layers.Add):
        return FakeQuant(relu=False, name=f"{name}_range")(layers.Add(name=name)(arguments))
    if isinstance(layer, layers.GlobalAveragePooling2D):
        return FakeQuant(relu=False, name=f"{name}_range")(layers.GlobalAveragePooling2D(name=name)(x))
    if isinstance(layer, layers.Dense):
        return _dense(model, layer, x)
    if isinstance(layer, layers.Reshape | layers.Flatten | layers.MaxPooling2D | Span):
        return layer.__class__.from_config(layer.get_config())(x)
    if isinstance(layer, layers.Concatenate) and len(model.inputs) > 1:
        # A state and what is new. The converter gives both one scale, because joining copies bytes.
        return layers.Concatenate(axis=layer.axis, name=name)(arguments)
    raise TrainingError(f"{model.name}: no quantised form of the layer {name!r} ({type(layer).__name__})")


def _dense(model: keras.Model, layer, x):
    name = layer.name
    y = QuantDense(kernel_shape=layer.kernel.shape, units=layer.units, name=name)(x)
    y = FakeQuant(relu=layer.activation is not keras.activations.linear, name=f"{name}_range")(y)
    if layer is model.layers[-1]:
        return layers.Softmax(name="softmax")(y)
    if layer.activation not in (keras.activations.relu, keras.activations.linear):
        raise TrainingError(f"{model.name}: no quantised form of the activation of the dense layer {name!r}")
    return y


def _inputs_of(layer) -> list:
    return layer.input if isinstance(layer.input, list) else [layer.input]


def _takers(model: keras.Model) -> dict[int, list]:
    """The layers that take each tensor, by its ``id``."""
    takers = defaultdict(list)
    for layer in model.layers:
        for tensor in [] if isinstance(layer, layers.InputLayer) else _inputs_of(layer):
            takers[id(tensor)].append(layer)
    return takers


def _is_relu(layer) -> bool:
    activation = layer.activation if isinstance(layer, layers.Activation) else None
    return isinstance(layer, layers.ReLU) or activation is keras.activations.relu


def norm_after(model: keras.Model) -> dict[str, layers.BatchNormalization]:
    """Batch norms that can be folded, by the name of the convolution or dense layer before each.

    Nothing else may take that layer's output.

    Raises
    ------
    TrainingError
        If a batch norm cannot be folded, a part of the network is no layer, or a layer is used in several places.
    """
    for part in model.operations:
        if not isinstance(part, layers.Layer):
            raise TrainingError(f"{model.name}: no quantised form of the operation {part.name!r}; use a layer instead")
        if len(part._inbound_nodes) > 1:
            raise TrainingError(f"{model.name}: the layer {part.name!r} is used more than once; make two layers")
    producer = {id(layer.output): layer for layer in model.layers}
    takers = _takers(model)
    norms = {}
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            before = producer[id(layer.input)]
            linear = getattr(before, "activation", None) is keras.activations.linear
            if not linear or not isinstance(before, _WEIGHTED) or len(takers[id(layer.input)]) > 1:
                raise TrainingError(
                    f"{model.name}: the batch norm {layer.name!r} cannot be folded; it must follow a convolution or"
                    f" dense layer without activation, whose output nothing else takes, not {before.name!r}"
                )
            norms[before.name] = layer
    return norms


def _conv(layer) -> QuantConv2D:
    if layer.activation not in (keras.activations.linear, keras.activations.relu):
        raise TrainingError(f"the convolution {layer.name!r} has an activation of its own; use a layer after it")
    return QuantConv2D(
        kernel_shape=layer.kernel.shape,
        units=layer.output.shape[-1],
        strides=layer.strides,
        padding=layer.padding,
        depthwise=isinstance(layer, layers.DepthwiseConv2D),
        dilation=layer.dilation_rate,
        middle=(layer.high + layer.low) / 2 if isinstance(layer, LevelConv2D) else 0.0,
        trainable=layer.trainable,
        name=layer.name,
    )


def _folded(layer, norm) -> list[NDArray[np.float32]]:
    """Kernel and bias of a layer. If a batch norm follows, it is folded into them."""
    kernel, *biases = (w.astype(np.float64) for w in layer.get_weights())
    bias = biases[0] if biases else np.zeros(layer.output.shape[-1])
    if isinstance(layer, LevelConv2D):
        kernel = kernel * (2 / (layer.high - layer.low))
    if norm is not None:
        gamma, beta, mean, variance = (w.astype(np.float64) for w in norm.get_weights())
        factor = gamma / np.sqrt(variance + norm.epsilon)
        per_channel = factor[:, np.newaxis] if isinstance(layer, layers.DepthwiseConv2D) else factor
        kernel, bias = kernel * per_channel, beta + (bias - mean) * factor
    return [kernel.astype(np.float32), bias.astype(np.float32)]


def _positive_logits(aware: keras.Model, model: keras.Model, calibration: NDArray[np.float32]) -> None:
    """Shift the logits to be positive, so that they can be rectified. The softmax stays the same."""
    last = model.layers[-1]
    if not (isinstance(last, layers.Dense) and last.activation is keras.activations.softmax):
        raise TrainingError(f"{model.name}: its last layer is no dense softmax")
    kernel, bias = last.get_weights()
    logits = keras.Model(model.inputs, last.input).predict(calibration, verbose=0) @ kernel + bias
    aware.get_layer(last.name).set_folded(kernel, bias + max(0.0, float(-logits.min())))


def _observe(aware: keras.Model, calibration: NDArray[np.float32]) -> None:
    """Set the ranges of activations from `calibration`. All layers compute in floating point meanwhile."""
    ranges = [layer for layer in aware.layers if isinstance(layer, FakeQuant)]
    for layer in ranges:
        layer.observing = True
    for at in range(0, len(calibration), 50):
        part = calibration[at : at + 50]
        past = [np.zeros((len(part), *state.shape[1:]), np.float32) for state in aware.inputs[1:]]
        aware([part, *past] if past else part)
    for layer in ranges:
        layer.observing = False


def export_model(aware: keras.Model) -> keras.Model:
    """A copy with rounded weights and fixed ranges, which the TFLite converter turns into INT8 without calibration.

    Raises
    ------
    TrainingError
        If Keras does not run on TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise TrainingError("export needs Keras on TensorFlow: set KERAS_BACKEND=tensorflow")
    copy = keras.models.clone_model(aware)
    copy.set_weights(aware.get_weights())
    for layer in copy.layers:
        if isinstance(layer, _Quantised):
            layer.bake()
        elif isinstance(layer, FakeQuant):
            layer.exported_range = (float(layer.low), max(float(layer.high), _SMALLEST))
    return copy
