"""Makes the small models beside this file anew: ``python tests/models/make.py``. It needs TensorFlow.

`operators_*` have nearly every operator that the verifier knows; `one` has one output; `stateful` has variables, too,
in the form of microWakeWord's models; `unlisted` has an operator that the verifier does not know; `loops` never ends;
`sized` takes batches of any size, so that its shapes are known only as it runs. `step` is a network with state, which
takes its past and gives it back.
"""

import contextlib
import io
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from host_tools.convert.step_graph import to_step_int8
from host_tools.networks.streaming import Separable, separable
from kws_edge.features.frontend import Frontend
from kws_edge.presets import preset

FOLDER = Path(__file__).parent


def random(*shape: int) -> tf.Tensor:
    rng = np.random.default_rng(sum(shape))
    return tf.constant(rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1])), tf.float32)


class Operators(tf.Module):
    """A graph of many operators."""

    shape = (1, 20, 10, 1)
    low, high = -3, 3

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.depthwise = random(3, 3, 1, 8), random(3, 3, 8, 2)
        self.dense, self.last = random(160, 20), random(20, 4)
        self.bias, self.biases, self.many = random(8), random(16), random(20)

    def __call__(self, x):
        x = tf.nn.relu(tf.nn.conv2d(x, self.conv, 1, "SAME", dilations=[1, 2, 1, 1]) + self.bias)
        x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
        x = tf.nn.depthwise_conv2d(x, self.depthwise, [1, 2, 2, 1], "VALID") + self.biases
        x = tf.nn.leaky_relu(x, 0.1)
        x = tf.nn.max_pool2d(x, 2, 1, "SAME")
        x = tf.nn.avg_pool2d(x, 2, 1, "SAME")
        a, b = tf.split(x, 2, axis=3)
        x = tf.concat([a * b, a - b], 3)
        x = tf.transpose(x, [0, 2, 1, 3])
        y = tf.reshape(tf.reduce_max(x[:, :, 0:9:2, :], axis=[1]), [1, -1])
        x = tf.reshape(tf.reduce_mean(x, axis=2), [1, -1])
        x = tf.nn.relu6(tf.matmul(tf.concat([x, y], 1)[:, :160], self.dense) + self.many)
        p = tf.stack([tf.tanh(x), tf.sigmoid(x)], axis=1)
        p = tf.squeeze(tf.expand_dims(p[:, 0, :], 1), 1)
        return tf.nn.softmax(tf.matmul(tf.maximum(p, x), self.last))


class One(tf.Module):
    """One wake word: levels above 128 in the upper bands."""

    shape = (1, 98, 40, 1)
    low, high = 0, 255

    def __init__(self) -> None:
        super().__init__()
        weights = np.repeat(np.linspace(-1, 1, 40, dtype=np.float32)[None, :, None, None] / 400, 8, axis=0)
        self.conv = tf.constant(weights)

    def __call__(self, x):
        x = tf.nn.conv2d(x, self.conv, [1, 8, 40, 1], "VALID") + tf.constant([0.01])
        return tf.sigmoid(tf.reduce_mean(tf.reshape(x, [1, 12]), axis=1, keepdims=True))


class Unlisted(One):
    """A network with one more operator."""

    def __call__(self, x):
        return tf.math.floor(super().__call__(x) * 256) / 256


class Loops(One):
    """A network whose loop never ends."""

    def __call__(self, x):
        y = super().__call__(x)
        return tf.while_loop(lambda v: tf.reduce_all(v > -1), lambda v: (v * 0.5,), (y,))[0]


class Sized(tf.Module):
    """A dense layer on each frame of a batch of any size. The file says (1, 1) for a shape of (98, 40)."""

    shape = (None, 98, 40)

    def __init__(self) -> None:
        super().__init__()
        self.dense = random(40, 3)

    def __call__(self, x):
        return tf.nn.softmax(tf.reduce_mean(tf.tensordot(x, self.dense, 1), axis=1))


class Stateful(tf.Module):
    """A network that takes three frames at a time and keeps the six frames before them."""

    shape = (1, 3, 40)
    low, high = 0, 26

    def __init__(self) -> None:
        super().__init__()
        self.kept = tf.Variable(tf.zeros([1, 6, 40]))

    def __call__(self, x):
        heard = tf.concat([self.kept, x], 1)
        self.kept.assign(heard[:, 3:])
        weights = tf.constant(np.full((360, 1), 1 / 360, np.float32))
        return tf.sigmoid(tf.matmul(tf.reshape(heard, [1, 360]), weights) - 6.0)


def convert(module: tf.Module, form: str, output=tf.int8) -> bytes:
    """A flatbuffer of a module: ``float``, ``hybrid`` (float with INT8 weights) or ``int8``."""
    function = tf.function(module.__call__, input_signature=[tf.TensorSpec(module.shape, tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], module)
    converter.experimental_enable_resource_variables = True
    if form != "float":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if form == "int8":
        rng = np.random.default_rng(0)
        shape, low, high = module.shape, module.low, module.high
        converter.representative_dataset = lambda: ([np.float32(rng.uniform(low, high, shape))] for _ in range(50))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type, converter.inference_output_type = tf.int8, output
        converter._experimental_variable_quantization = True
    with contextlib.redirect_stdout(io.StringIO()):
        return converter.convert()


def step_network() -> keras.Model:
    """A small network with state whose normalisation is not the identity."""
    form = Separable(channels=16, stem=5, stride=2, steps=9, evidence=1)
    network = separable(preset("logmel40"), 3, form, blocks=3, name="stream_micro")
    rng = np.random.default_rng(4)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            n = layer.gamma.shape[0]
            scale, variance = rng.uniform(0.5, 1.5, n), rng.uniform(0.3, 2, n)
            layer.set_weights([scale, rng.normal(0, 0.3, n), rng.normal(0, 0.3, n), variance])
        elif isinstance(layer, keras.layers.Conv2D):
            shapes = [weights.shape for weights in layer.get_weights()]
            layer.set_weights([rng.normal(0, 1.5 / np.sqrt(np.prod(shape[:-1]) or 1), shape) for shape in shapes])
    network.get_layer("words").set_weights([rng.normal(0, 0.8, (1, 1, 16, 3)), np.full(3, 2.0)])
    return network


def step_levels() -> np.ndarray:
    """Twenty seconds of levels that rise and fall like speech, and of silence; shape (1980, 40), float32."""
    rng = np.random.default_rng(5)
    t = np.arange(16000 * 20) / 16000
    envelope = np.maximum(0, np.sin(2 * np.pi * 1.7 * t)) * (np.sin(2 * np.pi * 0.21 * t) > -0.3)
    voice = sum(np.sin(2 * np.pi * f * t + np.sin(2 * np.pi * 3.1 * t)) for f in (180, 720, 2300))
    samples = 3000 * envelope * (voice + rng.standard_normal(len(t)))
    return np.round(Frontend(preset("logmel40")).frames(samples.astype(np.int16)))[:1980]


def main() -> None:
    keras.utils.set_random_seed(4)  # of what is not set here
    for form in ("float", "hybrid", "int8"):
        (FOLDER / f"operators_{form}.tflite").write_bytes(convert(Operators(), form))
    (FOLDER / "one.tflite").write_bytes(convert(One(), "int8"))
    (FOLDER / "unlisted.tflite").write_bytes(convert(Unlisted(), "float"))
    (FOLDER / "loops.tflite").write_bytes(convert(Loops(), "float"))
    (FOLDER / "sized.tflite").write_bytes(convert(Sized(), "float"))
    (FOLDER / "stateful.tflite").write_bytes(convert(Stateful(), "int8", tf.uint8))
    graph = to_step_int8(step_network(), [step_levels()], preset("logmel40"))
    (FOLDER / "step.tflite").write_bytes(graph)


if __name__ == "__main__":
    main()
