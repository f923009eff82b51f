"""Networks from elsewhere, as model files of ours: TFLite files and Keras's, with labels and a front end."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import kws_edge
from host_tools.convert.compact import compact, opened, written
from host_tools.data.features import read_clip
from host_tools.data.recordings import find_audio
from host_tools.errors import DatasetError, TrainingError, WorkerError
from host_tools.parallel import run_parallel
from host_tools.sampling.examples import span_range
from kws_edge.config import FrontendConfig
from kws_edge.errors import ModelError, UsageError
from kws_edge.features.frontend import Frontend
from kws_edge.files import check_writable, write_atomically
from kws_edge.model.file import Metadata, pack
from kws_edge.model.model import Model, fits, read_model
from kws_edge.model.tflite import FlatModel, verify
from kws_edge.model.trial import try_out
from kws_edge.spotter import Spotter
from kws_edge.text import counted, shown

__all__ = ["Imported", "import_model"]

_CONFIG = "config.json"
_LARGEST_CONFIG = 2**24  # bytes
_FEW_CLIPS = 50
_PASSING = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "QUANTIZE", "DEQUANTIZE")  # operators that leave values as they are
_KERAS = ("keras", "keras.layers", "keras.initializers", "keras.regularizers", "keras.constraints", "keras.activations")
_KERAS_VALUES = ("__keras_tensor__", "__tuple__", "__ellipsis__", "__numpy__", "__tensor__", "__bytes__")
_KERAS_INSIDE = ("keras.src.layers.", "keras.src.models.", "keras.src.ops.")


@dataclass(frozen=True)
class Imported:
    """What became of a network."""

    metadata: Metadata
    size: int
    """Bytes of the file."""
    notes: tuple[str, ...]
    """What was done to it: a line each."""


def import_model(
    path: str | Path,
    output: str | Path,
    *,
    labels: Sequence[str] | None = None,
    frontend_config: FrontendConfig | None = None,
    changes: dict | None = None,
    name: str = "",
    description: str = "",
    licence: str = "",
    clips: str | Path | None = None,
    n: int = 200,
    seed: int = 0,
) -> Imported:
    """Make a model file of a network from elsewhere, checked and run once.

    A TFLite file in INT8 stays as it is, but for what its ends need: inputs and outputs in floating point are cut off
    where they are quantised inside, and logits get a softmax (of one output, a sigmoid). A float network, of TFLite or
    Keras, is quantised on recordings.

    Parameters
    ----------
    path : path
        A ``.tflite`` or ``.keras`` file.
    output : path
        File to write; not `path`.
    labels, frontend_config
        Of the network. A file of ours says them itself, and these replace what it says.
    changes : dict, optional
        Of the detector's settings.
    name, description, licence : str
        What the file says of itself.
    clips : path, optional
        Folder of recordings such as the network will hear, at any depth: they set the ranges of a float network.
    n, seed : int
        How many of them, and their choice.

    Raises
    ------
    ModelError
        If the network is damaged, does not fit the labels or the front end, or cannot be run.
    TrainingError
        If it cannot be quantised.
    DatasetError
        If there are no recordings to quantise it on.
    """
    path, output = Path(path), Path(output)
    check_writable(output, option="-o", apart=[path])
    calibration = _Calibration(clips, n, seed)
    is_keras = _is_keras(path)
    flat, metadata = (None, None) if is_keras else read_model(path)[1:]
    given = {k: v for k, v in (("labels", labels), ("frontend_config", frontend_config)) if v is not None}
    if metadata is not None:
        metadata = dataclasses.replace(metadata, **given)
    elif len(given) == 2:
        metadata = Metadata(**given)
    else:
        raise UsageError(f"{path}: give --labels and --frontend, which this file does not say")
    flat = _from_keras(path, metadata.frontend_config) if is_keras else flat
    flatbuffer, notes = _from_tflite(flat, metadata, calibration)
    provenance = {"tool": f"kws-edge {kws_edge.__version__}", "imported": path.name}
    if calibration.used:
        provenance["calibration"] = {"examples": calibration.used, "seed": seed}
    metadata = dataclasses.replace(
        metadata,
        detector_config=dataclasses.replace(metadata.detector_config, **(changes or {})),
        name=name or metadata.name or output.stem,
        description=description or metadata.description or f"imported from {path.name}",
        licence=licence or metadata.licence,
        provenance=metadata.provenance or provenance,
    )
    content = pack(flatbuffer, metadata)
    _prove(path, content)
    write_atomically(output, content, durable=True)
    return Imported(metadata, len(content), tuple(notes))


def _prove(path: Path, content: bytes) -> None:
    """Run a file in a process of its own, then as the device will; errors name `path`."""
    with tempfile.TemporaryDirectory() as folder:
        draft = os.path.join(folder, "draft.tflite")
        Path(draft).write_bytes(content)
        try:
            _, flat, _ = read_model(draft)
            unproven = verify(flat) or ["it comes from elsewhere"]
            try_out(flat, unproven, runtime="auto", threads=1, kernels="builtin")
            model = Model(draft, kernels="builtin")
            Spotter(model)  # which its detector's settings must suit
            model.posteriors(np.zeros(model.frontend_config.feature_shape, np.float32))
        except ModelError as error:
            raise ModelError(str(error).replace(draft, str(path))) from None


class _Calibration:
    """Recordings that set the ranges of a float network, read when they are asked for."""

    def __init__(self, folder: str | Path | None, n: int, seed: int) -> None:
        self.folder, self.n, self.seed = folder, n, seed
        self.used = 0

    def inputs(self, path: Path | str, frontend_config: FrontendConfig) -> np.ndarray:
        """float32 (n, *frontend_config.feature_shape), spanning the range of its levels."""
        if self.folder is None:
            raise DatasetError(
                f"{path}: is in floating point; give --clips DIR, recordings such as it will hear, to quantise it"
            )
        found = find_audio(self.folder).paths
        frontend, features, problem = Frontend(frontend_config), [], "no recordings in it"
        for i in np.random.default_rng(self.seed).permutation(len(found)):
            try:
                features.append(frontend(read_clip(found[i], frontend_config)))
            except DatasetError as error:
                problem = str(error)
            if len(features) == self.n:
                break
        if not features:
            raise DatasetError(f"{self.folder}: nothing to quantise {path} on ({problem})")
        self.used = len(features)
        return span_range(np.stack(features).astype(np.float32), frontend_config)

    def notes(self, floating: np.ndarray, quantised: np.ndarray) -> list[str]:
        """What quantisation did, from the posteriors before and after."""
        agreement = float((floating.argmax(axis=1) == quantised.argmax(axis=1)).mean())
        lines = [f"quantised on {counted(self.used, 'clip')}: INT8 and float agree on {agreement:.1%} of them"]
        if self.used < _FEW_CLIPS:
            lines.append(f"{counted(self.used, 'clip')} are few to set ranges by; give {_FEW_CLIPS} or more")
        return lines


# TFLite


def _from_tflite(flat: FlatModel, metadata: Metadata, calibration: _Calibration) -> tuple[bytes, list[str]]:
    verify(flat)
    for what, tensors in (("input", flat.inputs), ("output", flat.outputs)):
        if len(tensors) != 1:
            raise ModelError(f"{flat.name}: has {len(tensors)} {what}s; a keyword model has one")
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
    floating = _run(flat, inputs)
    if not (_is_posterior(flat) or _sums_to_one(floating)):
        flat = _with_posteriors(flat)
        notes.append(_added(metadata))
        floating = _run(flat, inputs)
    try:  # TensorFlow ends the process over some networks: what is not known to be harmless gets one of its own
        (small,) = run_parallel(_calibrated, [(flat, inputs)], workers=None if verify(flat) else 1)
    except WorkerError:
        raise TrainingError(f"{flat.name}: TensorFlow fails to quantise it; leave out recurrent layers") from None
    return small.data, notes + calibration.notes(floating, _run(small, inputs))


def _added(metadata: Metadata) -> str:
    return f"its outputs are logits; a {'sigmoid' if len(metadata.labels) == 1 else 'softmax'} was added"


def _check_shapes(name: str, taken: Sequence[int], given: Sequence[int], metadata: Metadata) -> None:
    frames, mels = metadata.frontend_config.feature_shape
    if not fits(taken, (frames, mels)):
        raise ModelError(
            f"{name}: input of shape {list(taken)}, but its front end gives {frames} frames of {mels} mels; name the"
            " one that it was trained on with --frontend"
        )
    if not given or given[-1] != len(metadata.labels) or any(n != 1 for n in given[:-1]):
        raise ModelError(
            f"{name}: output of shape {list(given)}, but {counted(len(metadata.labels), 'label')}:"
            f" {shown(', '.join(metadata.labels))}"
        )


def _quantised_ends(flat: FlatModel) -> tuple[FlatModel, bool]:
    """Without the conversion from and to floating point, where a file has such around an INT8 network."""
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
    """Whether the output is one of a softmax or sigmoid, or has the range of one."""
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


def _sums_to_one(values: np.ndarray) -> bool:
    return bool(values.shape[1] > 1 and (values >= 0).all() and np.allclose(values.sum(axis=1), 1, atol=1e-3))


def _with_posteriors(flat: FlatModel) -> FlatModel:
    """The same network with a softmax at its end; of one output, a sigmoid."""
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


def _calibrated(job: tuple[FlatModel, np.ndarray]) -> FlatModel:
    """A float network in INT8, as TensorFlow's converter makes it of one of Keras's; ranges from the inputs."""
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
    except Exception as error:  # whatever TensorFlow raises
        raise TrainingError(
            f"{flat.name}: TensorFlow cannot quantise it: {' '.join(str(error).split())[:500]}"
        ) from None
    result = FlatModel(compact(bytes(small)), flat.name)
    if floating := [t.name for t in result.tensors if t.dtype.startswith("float")]:
        raise TrainingError(f"{flat.name}: {floating[0]!r} stays in floating point; it cannot run as INT8")
    return result


def _run(flat: FlatModel, inputs: np.ndarray) -> np.ndarray:
    """Posteriors, or logits, of a network that is no model file yet; float32 (n, n_outputs)."""
    from kws_edge.model.quantization import dequantize, quantize
    from kws_edge.model.runtime import Interpreter

    interpreter, taken, given = Interpreter(flat, kernels="builtin"), flat.inputs[0], flat.outputs[0]
    outputs = []
    for x in inputs:
        x = x.reshape(taken.shape)
        interpreter.reset()
        y = interpreter.invoke(quantize(x, taken.scale, taken.zero_point, taken.dtype) if taken.scale else x)
        outputs.append(dequantize(y, given.scale, given.zero_point) if given.scale else y)
    return np.array(outputs, np.float32).reshape(len(inputs), -1)


# Keras


def _is_keras(path: Path) -> bool:
    if path.is_dir():
        raise ModelError(f"{path}: is a folder; name a .tflite or .keras file (of a run: kws-host quantize)")
    return path.suffix.lower() == ".keras" and path.exists()


def _from_keras(path: Path, frontend_config: FrontendConfig) -> FlatModel:
    """A network of Keras's as a float one of TFLite's, its input as the front end gives it."""
    import keras

    from host_tools.convert.quantize import to_float

    network = _load_keras(path)
    shape = _shape_of_input(path, tuple(network.inputs[0].shape)[1:], frontend_config)
    if tuple(network.inputs[0].shape)[1:] != shape:
        fixed = keras.Input(shape)
        network = keras.Model(fixed, network(fixed), name=network.name)
    try:
        return FlatModel(to_float(network), str(path))
    except TrainingError as error:
        raise TrainingError(f"{path}: {error}") from None


def _shape_of_input(path: Path, shape: tuple[int | None, ...], frontend_config: FrontendConfig) -> tuple[int, ...]:
    """The input's shape, with what it leaves open as the front end gives it."""
    frames, mels = frontend_config.feature_shape
    for full in ((frames, mels), (frames, mels, 1), (1, frames, mels), (frames, 1, mels), (frames * mels,)):
        if len(full) == len(shape) and all(own in (None, n) for own, n in zip(shape, full, strict=True)):
            return full
    raise ModelError(
        f"{path}: input of shape {shown(shape)}, but its front end gives {frames} frames of {mels} mels; name the one"
        " that it was trained on with --frontend"
    )


def _load_keras(path: Path):
    """A network of Keras's own layers and ours; nothing else that a file may name is looked at.

    Raises
    ------
    ModelError
        If the file is damaged, has other layers, or several inputs or outputs.
    """
    import keras

    import host_tools.networks.qat  # noqa: F401  registers our layers, as host_tools.networks.models does

    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(_CONFIG).file_size > _LARGEST_CONFIG:
                raise ValueError(f"its {_CONFIG} is too large")
            config = json.loads(archive.read(_CONFIG))
        config.pop("compile_config", None)
        _check_parts(path, config)
        network = keras.models.load_model(path, compile=False)
    except ModelError:
        raise
    except Exception as error:  # whatever Keras raises for what it cannot build
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"{path}: cannot be loaded by Keras {keras.__version__} ({reason[:300]})") from None
    for what, tensors in (("input", getattr(network, "inputs", ())), ("output", getattr(network, "outputs", ()))):
        if len(tensors) != 1:
            raise ModelError(f"{path}: has {len(tensors)} {what}s; a keyword model has one")
    return network


def _check_parts(path: Path, part: object) -> None:
    """Refuse what is not Keras's or ours: loading it would run code that a file from elsewhere names."""
    if isinstance(part, list):
        for one in part:
            _check_parts(path, one)
    if not isinstance(part, dict):
        return
    if "class_name" in part:
        kind, module, registered = part["class_name"], part.get("module"), str(part.get("registered_name"))
        known = module in _KERAS or str(module).startswith(_KERAS_INSIDE) or registered.startswith("kws_edge>")
        known = known and str(kind).isidentifier() and kind not in ("Lambda", "__lambda__")
        if not (known or (module is None and kind in _KERAS_VALUES)):
            what = kind if module is None else f"{module}.{kind}"
            raise ModelError(
                f"{path}: has {shown(what)}, which is not run from a file; import a .tflite of it, or train it by"
                " `kws-host train --model MODULE:FUNCTION`"
            )
    for one in part.values():
        _check_parts(path, one)
