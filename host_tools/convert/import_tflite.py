"""TFLite networks from elsewhere are made INT8 networks that end in posteriors."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from host_tools.convert.calibration_clips import CalibrationClips
from host_tools.convert.compact import compact, opened, written
from host_tools.errors import TrainingError, WorkerError
from host_tools.parallel import run_parallel
from kws_edge.errors import ModelError
from kws_edge.model.check import ends_of_no_clip, fits
from kws_edge.model.file import Metadata
from kws_edge.model.tflite import FlatModel, verify
from kws_edge.text import counted, shown

__all__ = ["from_tflite", "run_network"]

_PASSING = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "QUANTIZE", "DEQUANTIZE")  # operators that leave values as they are


def from_tflite(flat: FlatModel, metadata: Metadata, calibration: CalibrationClips) -> tuple[bytes, list[str]]:
    """The network in INT8 as a flatbuffer, and lines that say what was changed.

    Parameters
    ----------
    flat : FlatModel
    metadata : Metadata
        Labels and front end of the network.
    calibration : CalibrationClips
        Recordings that set the ranges of a float network.

    Raises
    ------
    ModelError
        If it contradicts itself, or does not fit the labels or the front end.
    TrainingError
        If it cannot be quantised.
    DatasetError
        If there are no recordings to quantise it on.
    """
    verify(flat)
    if wrong := ends_of_no_clip(flat):
        raise ModelError(f"{flat.name}: has {wrong[0]}")
    _check_shapes(flat.name, flat.inputs[0].shape, flat.outputs[0].shape, metadata)
    notes = []
    flat, ends = _quantised_ends(flat)
    if ends:
        notes.append("its input and output are in INT8 now, as it is inside")
    if "float32" not in (flat.inputs[0].dtype, flat.outputs[0].dtype):
        if not _is_posterior(flat):
            flat = _with_posteriors(flat)
            notes.append(_added(metadata))
        return flat.data, notes
    inputs = calibration.inputs(flat.name, metadata.frontend_config)
    floating = run_network(flat, inputs)
    if not (_is_posterior(flat) or _sums_to_one(floating)):
        flat = _with_posteriors(flat)
        notes.append(_added(metadata))
        floating = run_network(flat, inputs)
    try:  # TensorFlow ends the process over some networks: those that might get a process of their own
        (small,) = run_parallel(_calibrated, [(flat, inputs)], workers=None if verify(flat) else 1)
    except WorkerError:
        raise TrainingError(f"{flat.name}: TensorFlow fails to quantise it; leave out recurrent layers") from None
    return small.data, notes + calibration.notes(floating, run_network(small, inputs))


def _added(metadata: Metadata) -> str:
    return f"its outputs are logits; a {'sigmoid' if len(metadata.labels) == 1 else 'softmax'} was added"


def _check_shapes(name: str, taken: Sequence[int], given: Sequence[int], metadata: Metadata) -> None:
    config = metadata.frontend_config
    if not fits(taken, config.feature_shape):
        raise ModelError(
            f"{name}: input of shape {list(taken)}, but its front end gives {config.feature_shape[0]} frames of "
            f"{config.frame_text}; name the one that it was trained on with --frontend"
        )
    if not given or given[-1] != len(metadata.labels) or any(n != 1 for n in given[:-1]):
        raise ModelError(
            f"{name}: output of shape {list(given)}, but {counted(len(metadata.labels), 'label')}:"
            f" {shown(', '.join(metadata.labels))}"
        )


def _quantised_ends(flat: FlatModel) -> tuple[FlatModel, bool]:
    """The network without conversions from and to floating point at its ends, and whether it had any."""
    if "float32" not in (flat.inputs[0].dtype, flat.outputs[0].dtype):
        return flat, False
    from tensorflow import float32, int8
    from tensorflow.lite.python.util import modify_model_io_type

    kinds = [int8 if tensors[0].dtype == "float32" else float32 for tensors in (flat.inputs, flat.outputs)]
    for ends in (kinds, [kinds[0], float32], [float32, kinds[1]]):
        with contextlib.suppress(ValueError, RuntimeError):
            changed = written(opened(bytes(modify_model_io_type(bytearray(flat.data), *ends))))
            return FlatModel(changed, flat.name), changed != flat.data and int8 in ends
    return flat, False


def _is_posterior(flat: FlatModel) -> bool:
    """Whether the output comes from a softmax or sigmoid, or has the range of one."""
    made = {number: op for op in flat.graphs[0].operators for number in op.outputs}
    number = flat.graphs[0].outputs[0]
    while (op := made.get(number)) is not None and op.name in _PASSING:
        number = op.inputs[0]
    if op is not None and op.name in ("SOFTMAX", "LOGISTIC"):
        return True
    output = flat.outputs[0]
    if output.dtype not in ("int8", "uint8") or not output.scale:
        return False
    limits = np.iinfo(output.dtype)
    low, high = ((q - output.zero_point) * output.scale for q in (limits.min, limits.max))
    return abs(low) < 0.05 and 0.9 < high < 1.1


def _sums_to_one(values: NDArray[np.float32]) -> bool:
    return bool(values.shape[1] > 1 and (values >= 0).all() and np.allclose(values.sum(axis=1), 1, atol=1e-3))


def _with_posteriors(flat: FlatModel) -> FlatModel:
    """The same network with a softmax at its end, or a sigmoid if it has one output."""
    from tensorflow.lite.python import schema_py_generated as schema

    model = opened(flat.data)
    graph, last = model.subgraphs[0], flat.graphs[0].outputs[0]
    logits = graph.tensors[last]
    one = flat.outputs[0].elements == 1
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = (
        schema.BuiltinOperator.LOGISTIC if one else schema.BuiltinOperator.SOFTMAX
    )
    code.version = 2 if logits.type == schema.TensorType.INT8 else 1
    posteriors = schema.TensorT()
    posteriors.name, posteriors.shape, posteriors.type, posteriors.buffer = b"posteriors", logits.shape, logits.type, 0
    posteriors.shapeSignature, posteriors.hasRank = logits.shapeSignature, logits.hasRank
    if logits.type != schema.TensorType.FLOAT32:
        quantization = schema.QuantizationParametersT()
        quantization.scale = np.array([1 / 256], np.float32)
        quantization.zeroPoint = np.array([-128 if logits.type == schema.TensorType.INT8 else 0], np.int64)
        posteriors.quantization = quantization
    op = schema.OperatorT()
    op.opcodeIndex, op.inputs, op.outputs = len(model.operatorCodes), [last], [len(graph.tensors)]
    if not one:
        op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.SoftmaxOptions, schema.SoftmaxOptionsT()
        op.builtinOptions.beta = 1.0
    model.operatorCodes.append(code)
    graph.tensors.append(posteriors)
    graph.operators.append(op)
    graph.outputs = [len(graph.tensors) - 1]
    for signature in model.signatureDefs or ():
        for output in signature.outputs:
            output.tensorIndex = graph.outputs[0]
    return FlatModel(written(model), flat.name)


def _calibrated(job: tuple[FlatModel, NDArray[np.float32]]) -> FlatModel:
    """A float network in INT8, as TensorFlow's converter makes it. The inputs set the ranges."""
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    flat, inputs = job
    shape = flat.inputs[0].shape
    try:
        seen = Calibrator(flat.data).calibrate(lambda: ([x.reshape(shape)] for x in inputs))
        small = mlir_quantize(
            seen,
            fully_quantize=True,
            input_data_type=tf.int8,
            output_data_type=tf.int8,
            disable_per_channel_for_dense_layers=True,
        )
    except Exception as error:  # TensorFlow raises many kinds
        raise TrainingError(
            f"{flat.name}: TensorFlow cannot quantise it: {' '.join(str(error).split())[:500]}"
        ) from None
    result = FlatModel(compact(bytes(small)), flat.name)
    if floating := [t.name for t in result.tensors if t.dtype.startswith("float")]:
        raise TrainingError(f"{flat.name}: {floating[0]!r} stays in floating point; it cannot run as INT8")
    return result


def run_network(flat: FlatModel, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Posteriors or logits, float32 (n, n_outputs), of a network that is no model file yet.

    Parameters
    ----------
    flat : FlatModel
    inputs : numpy.ndarray, shape (n, ...), float32
        Each input has the shape that the network takes.
    """
    from kws_edge.model.interpreter import Interpreter
    from kws_edge.model.quantization import dequantize, quantize

    interpreter, taken, given = Interpreter(flat, kernels="builtin"), flat.inputs[0], flat.outputs[0]
    outputs = []
    for x in inputs:
        x = x.reshape(taken.shape)
        interpreter.reset()
        y = interpreter.invoke(quantize(x, taken.scale, taken.zero_point, np.dtype(taken.dtype)) if taken.scale else x)
        outputs.append(dequantize(y, given.scale, given.zero_point) if given.scale else y)
    return np.array(outputs, np.float32).reshape(len(inputs), -1)
