"""Keras networks from elsewhere, as float networks of TFLite."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from host_tools.errors import TrainingError
from kws_edge.config import FrontendConfig
from kws_edge.errors import ModelError
from kws_edge.model.tflite import FlatModel
from kws_edge.text import shown

__all__ = ["from_keras", "is_keras"]

_CONFIG = "config.json"
_LARGEST_CONFIG = 2**24  # bytes
_KERAS = ("keras", "keras.layers", "keras.initializers", "keras.regularizers", "keras.constraints", "keras.activations")
_KERAS_VALUES = ("__keras_tensor__", "__tuple__", "__ellipsis__", "__numpy__", "__tensor__", "__bytes__")
_KERAS_INSIDE = ("keras.src.layers.", "keras.src.models.", "keras.src.ops.")


def is_keras(path: Path) -> bool:
    """Whether `path` has the name of a Keras file."""
    if path.is_dir():
        raise ModelError(f"{path}: is a folder; name a .tflite or .keras file (of a run: kws-host quantize)")
    return path.suffix.lower() == ".keras" and path.exists()


def from_keras(path: Path, frontend_config: FrontendConfig) -> FlatModel:
    """The network, with the input shape that the front end gives.

    Raises
    ------
    ModelError
        If the file is damaged, does not fit the front end, or has layers that are neither Keras's nor ours.
    TrainingError
        If TensorFlow cannot convert it.
    """
    import keras

    from host_tools.convert.clip_graph import to_float

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
    """The shape of the input. Open dimensions are those of the front end."""
    frames, mels = frontend_config.feature_shape
    for full in ((frames, mels), (frames, mels, 1), (1, frames, mels), (frames, 1, mels), (frames * mels,)):
        if len(full) == len(shape) and all(own in (None, n) for own, n in zip(shape, full, strict=True)):
            return full
    raise ModelError(
        f"{path}: input of shape {shown(shape)}, but its front end gives {frames} frames of "
        f"{frontend_config.frame_text}; name the one that it was trained on with --frontend"
    )


def _load_keras(path: Path):
    """Load a network of Keras's layers and ours. Nothing else that a file may name is loaded.

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
    except Exception as error:  # Keras raises many kinds for what it cannot build
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"{path}: cannot be loaded by Keras {keras.__version__} ({reason[:300]})") from None
    for what, tensors in (("input", getattr(network, "inputs", ())), ("output", getattr(network, "outputs", ()))):
        if len(tensors) != 1:
            raise ModelError(f"{path}: has {len(tensors)} {what}s; a keyword model has one")
    return network


def _check_parts(path: Path, part: object) -> None:
    """Refuse layers that are neither Keras's nor ours: loading them would run code that the file names."""
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
