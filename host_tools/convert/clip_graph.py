"""A network of clips as a TFLite flatbuffer, in floating point or INT8."""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

from host_tools.convert.compact import compact
from host_tools.convert.converter import check_integer, convert
from host_tools.errors import TrainingError
from host_tools.networks.qat import export_model, is_quantisation_aware
from kws_edge.model.tflite import FlatModel

__all__ = ["to_float", "to_int8"]


def _with_positive_logits(model: keras.Model, calibration: NDArray[np.float32]) -> keras.Model:
    """A copy whose logits are shifted to be positive on the calibration examples. The softmax stays the same.

    If the network does not end in a dense softmax, it is returned itself. TFLite's kernels and TFLite Micro's round
    negative halves differently. Without negative values both give the same bits.
    """
    last = model.layers[-1]
    if not (isinstance(last, keras.layers.Dense) and last.activation is keras.activations.softmax):
        return model
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    dense = copy.layers[-1]
    kernel, bias = dense.get_weights()
    logits = keras.Model(copy.inputs, dense.input).predict(calibration, verbose=0) @ kernel + bias
    dense.set_weights([kernel, bias + max(0.0, float(-logits.min()))])
    return copy


def to_float(model: keras.Model) -> bytes:
    """Convert a model to a TFLite flatbuffer in floating point, to compare with its INT8 form."""
    return convert(_converter(model))


def to_int8(model: keras.Model, calibration: NDArray[np.float32] | None = None, *, plain: bool = False) -> bytes:
    """Quantise weights (per channel) and activations, input and output included, to INT8.

    Parameters
    ----------
    model : keras.Model
        A float network, or one of :func:`host_tools.networks.qat.quantisation_aware`.
    calibration : numpy.ndarray, shape (n, frames, mels, 1), float32, optional
        Examples whose activations set the ranges. A quantisation-aware network has its own ranges and needs none.
    plain : bool
        Leave the file as the converter writes it. Dense layers are then per channel, which tflite-runtime 2.14 cannot
        run. :func:`host_tools.convert.compact.compact` does not make the file smaller.

    Returns
    -------
    bytes
        A TFLite flatbuffer that LiteRT, tflite-runtime 2.14 and TFLite Micro run.

    Raises
    ------
    TrainingError
        If a part of the model stays in floating point.
    """
    import tensorflow as tf

    if is_quantisation_aware(model):
        converter = _converter(export_model(model))
    elif calibration is None:
        raise TrainingError(f"{model.name}: a float network needs calibration examples to be quantised")
    else:
        converter = _converter(_with_positive_logits(model, calibration))
        converter.representative_dataset = lambda: ([example[np.newaxis]] for example in calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    # Dense layers are quantised per tensor: tflite-runtime 2.14 does not know their per-channel form.
    converter._experimental_disable_per_channel_quantization_for_dense_layers = not plain
    flatbuffer = convert(converter)
    if not plain:
        flatbuffer = compact(flatbuffer)
    check_integer(FlatModel(flatbuffer, model.name))
    return flatbuffer


def _converter(model: keras.Model):
    import tensorflow as tf

    # A fixed batch size of one spares the device the operators that would compute the batch size.
    one = keras.Input(batch_shape=(1, *model.input_shape[1:]), name="levels")
    return tf.lite.TFLiteConverter.from_keras_model(keras.Model(one, model(one), name=model.name))
