"""Quantisation: a Keras model to an INT8 TFLite flatbuffer, post-training or from quantisation-aware training."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

import kws_edge
from host_tools.convert.compact import compact
from host_tools.data.origins import SPEECH_COMMANDS, SYNTHETIC
from host_tools.errors import TrainingError
from host_tools.networks.models import MODELS, build
from host_tools.networks.qat import export_model, is_quantisation_aware
from host_tools.training.run import Run
from kws_edge.config import DetectorConfig
from kws_edge.files import write_atomically
from kws_edge.model.file import Metadata, pack
from kws_edge.model.model import Model
from kws_edge.model.tflite import FlatModel
from kws_edge.native_output import quiet_native

__all__ = ["convert", "default_licence", "quantize_run", "to_float", "to_int8"]


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
    floating = [t.name for t in FlatModel(flatbuffer, model.name).tensors if t.dtype.startswith("float")]
    if floating:
        raise TrainingError(f"{model.name}: {floating[0]} stayed in floating point; the model cannot run as INT8")
    return flatbuffer


def _converter(model: keras.Model):
    import tensorflow as tf

    # A fixed batch size of one spares the device the operators that would compute the batch size.
    one = keras.Input(batch_shape=(1, *model.input_shape[1:]), name="levels")
    return tf.lite.TFLiteConverter.from_keras_model(keras.Model(one, model(one), name=model.name))


def convert(converter) -> bytes:
    """Run a TFLite converter quietly; what it raises becomes a TrainingError."""
    with quiet_native(), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Statistics for quantized inputs", UserWarning)
        try:
            return converter.convert()
        except Exception as error:  # TensorFlow raises many kinds for a user's own network
            raise TrainingError(f"TensorFlow cannot convert this network to TFLite: {str(error)[:500]}") from None


def quantize_run(
    run: Run,
    path: str | Path,
    *,
    name: str,
    n: int = 200,
    seed: int = 0,
    detector_config: DetectorConfig | None = None,
    description: str | None = None,
    licence: str | None = None,
) -> Metadata:
    """Quantise the best weights of `run` and write a self-describing model file.

    The file records the accuracy of the run's network and of the INT8 network on the run's validation examples.

    Parameters
    ----------
    run : Run
    path : path
        File to write.
    name : str
        What the model is called.
    n, seed : int
        Number of calibration examples, and the seed of their choice. A quantisation-aware run needs none.
    detector_config : DetectorConfig, optional
        Defaults that the file carries.
    description : str, optional
        What the file says of itself; by default the network's kind and size.
    licence : str, optional
        Licence of the weights; by default that of :func:`default_licence`.
    """
    model = run.model()
    aware = is_quantisation_aware(model)
    flatbuffer = to_int8(model, None if aware else run.calibration(n, seed=seed))
    quantisation = "INT8 by " + ("quantisation-aware training" if aware else "post-training quantisation")
    calibration = {} if aware else {"calibration": {"examples": n, "seed": seed}}
    metadata = Metadata(
        labels=run.labels,
        frontend_config=run.frontend_config,
        detector_config=detector_config or DetectorConfig(),
        name=name,
        description=_description(run, quantisation) if description is None else description,
        licence=default_licence(run.origins) if licence is None else licence,
        provenance={**_provenance(run), "quantisation": quantisation, **calibration},
    )
    metadata = dataclasses.replace(metadata, metrics={"validation": _compared(run, model, pack(flatbuffer, metadata))})
    write_atomically(path, pack(flatbuffer, metadata), durable=True)
    return metadata


def _description(run: Run, quantisation: str) -> str:
    """Kind and size of the network."""
    t = run.config.network
    width = f" of width {t.width:g}" if t.model in MODELS or t.width != 1 else ""
    n = build(t.model, run.frontend_config, len(run.labels), width=t.width).count_params()
    return f"{t.model}{width}, {n:,} parameters, {quantisation}"


def _provenance(run: Run) -> dict[str, Any]:
    """What made the weights. Other runs are given by their names alone."""
    training = {
        k: ",".join(Path(p).name for p in v.split(",")) if k in ("start", "blend", "teacher", "qat") else v
        for k, v in run.config.summary().items()
    }
    return {
        "tool": f"kws-edge {kws_edge.__version__}",
        "training": training,
        "data": run.record["data"],
        "best": run.record.get("best", {}),
        "versions": run.record["versions"],
    }


def _compared(run: Run, model: keras.Model, content: bytes) -> dict[str, float]:
    """Accuracies of the network and of its model file on the run's validation examples."""
    inputs, truth = run.examples("validation")
    floating = model.predict(inputs, batch_size=256, verbose=0).argmax(axis=1)
    with tempfile.TemporaryDirectory() as folder:
        draft = os.path.join(folder, "draft.tflite")
        Path(draft).write_bytes(content)
        int8 = Model(draft, kernels="builtin")
        quantised = np.array([int8.posteriors(x[..., 0]).argmax() for x in inputs])
    return {
        "clips": len(truth),
        "float_accuracy": round(float((floating == truth).mean()), 5),
        "int8_accuracy": round(float((quantised == truth).mean()), 5),
        "agreement": round(float((floating == quantised).mean()), 5),
    }


def default_licence(origins: Sequence[str]) -> str:
    """Licence and attribution of weights that were trained on words of these origins.

    The text states what the licences of others ask for. It says nothing about the user's own recordings.

    Parameters
    ----------
    origins : sequence of str
        See :attr:`host_tools.training.run.Run.origins`.
    """
    if SPEECH_COMMANDS in origins and {*origins} <= {SPEECH_COMMANDS, SYNTHETIC}:
        return f"Apache-2.0. Trained on {SPEECH_COMMANDS}; see NOTICE for all sources."
    return f"Trained on {', '.join(origins)}. No licence is stated." if origins else ""
