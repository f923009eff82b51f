"""Networks from elsewhere, as model files of ours: TFLite and Keras files get labels and a front end."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import kws_edge
from host_tools.convert.calibration_clips import CalibrationClips
from host_tools.convert.import_keras import from_keras, is_keras
from host_tools.convert.import_tflite import from_tflite
from kws_edge.config import FrontendConfig
from kws_edge.errors import ModelError, UsageError
from kws_edge.files import check_writable, write_atomically
from kws_edge.model.file import Metadata, pack
from kws_edge.model.model import Model, read_model
from kws_edge.model.tflite import FlatModel, verify
from kws_edge.model.trial import try_out
from kws_edge.spotter import Spotter

__all__ = ["Imported", "import_model"]


@dataclass(frozen=True)
class Imported:
    """The result of :func:`import_model`."""

    metadata: Metadata
    size: int
    """Bytes of the file."""
    notes: tuple[str, ...]
    """Lines that say what was changed in the network."""


def import_model(
    path: str | Path,
    output: str | Path,
    *,
    labels: Sequence[str] | None = None,
    frontend_config: FrontendConfig | None = None,
    changes: Mapping[str, Any] | None = None,
    name: str = "",
    description: str = "",
    licence: str = "",
    clips: str | Path | None = None,
    n: int = 200,
    seed: int = 0,
) -> Imported:
    """Make a model file of a network from elsewhere. The file is checked and run once.

    Of a TFLite file in INT8 only the ends may change. Conversions from and to floating point at the ends are cut off.
    Logits get a softmax; a single output gets a sigmoid. A float network of TFLite or Keras is quantised on recordings.

    Parameters
    ----------
    path : path
        A ``.tflite`` or ``.keras`` file.
    output : path
        File to write. It must not be `path`.
    labels, frontend_config
        The network's. A file of ours names them itself; if you give them, they replace what it names.
    changes : mapping, optional
        Changes of the detector's settings.
    name, description, licence : str
        What the file says of itself.
    clips : path, optional
        Folder with recordings such as the network will hear, at any depth. They set the ranges of a float network.
    n, seed : int
        Number of these recordings, and the seed of their choice.

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
    calibration = CalibrationClips(clips, n, seed)
    flat, metadata = _opened(path, labels, frontend_config)
    flatbuffer, notes = from_tflite(flat, metadata, calibration)
    provenance: dict[str, Any] = {"tool": f"kws-edge {kws_edge.__version__}", "imported": path.name}
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


def _opened(
    path: Path, labels: Sequence[str] | None, frontend_config: FrontendConfig | None
) -> tuple[FlatModel, Metadata]:
    """The network and its metadata. `labels` and `frontend_config` replace what the file says."""
    if is_keras(path):
        metadata = _metadata(path, None, labels, frontend_config)
        return from_keras(path, metadata.frontend_config), metadata
    _, flat, own = read_model(path)
    return flat, _metadata(path, own, labels, frontend_config)


def _metadata(
    path: Path, own: Metadata | None, labels: Sequence[str] | None, frontend_config: FrontendConfig | None
) -> Metadata:
    if own is not None:
        labels = own.labels if labels is None else labels
        frontend_config = own.frontend_config if frontend_config is None else frontend_config
        return dataclasses.replace(own, labels=tuple(labels), frontend_config=frontend_config)
    if labels is None or frontend_config is None:
        raise UsageError(f"{path}: give --labels and --frontend, which this file does not say")
    return Metadata(labels=tuple(labels), frontend_config=frontend_config)


def _prove(path: Path, content: bytes) -> None:
    """Run a file in a process of its own, then as the device will. Errors name `path`."""
    with tempfile.TemporaryDirectory() as folder:
        draft = os.path.join(folder, "draft.tflite")
        Path(draft).write_bytes(content)
        try:
            _, flat, _ = read_model(draft)
            unproven = verify(flat) or ["it comes from elsewhere"]
            try_out(flat, unproven, runtime="auto", threads=1, kernels="builtin")
            model = Model(draft, kernels="builtin")
            Spotter(model)  # refuses detector settings that do not suit the model
            model.posteriors(np.zeros(model.frontend_config.feature_shape, np.float32))
        except ModelError as error:
            raise ModelError(str(error).replace(draft, str(path))) from None
