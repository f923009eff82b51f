"""Load a model file, check it, and compute posteriors."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from kws_edge.config import DetectorConfig, FrontendConfig, StepConfig
from kws_edge.detection.sensitivity import SENSITIVITY, OperatingPoint, point_at
from kws_edge.errors import AudioError, ConfigError, ModelError
from kws_edge.features.frontend import Frontend
from kws_edge.labels import check_labels
from kws_edge.model.check import check_confirming, check_levels, check_tensors
from kws_edge.model.classification import Classification, classified
from kws_edge.model.confirm import Confirmer
from kws_edge.model.file import MOST_BYTES, Metadata, unpack
from kws_edge.model.interpreter import Interpreter
from kws_edge.model.quantization import dequantize, posterior, quantize
from kws_edge.model.step_graph import StepInterpreter
from kws_edge.model.tflite import FlatModel, Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AFTER_MS", "DEFAULT_MODEL", "Model", "read_model", "shipped_models"]

DEFAULT_MODEL = "commands12"
_SHIPPED = os.path.join(os.path.dirname(os.path.dirname(__file__)), "models")
AFTER_MS = 250.0
"""Time after a clip in which a network with state may still answer."""


def shipped_models() -> dict[str, str]:
    """Paths of the models that come with the package, by name.

    Examples
    --------
    >>> from kws_edge import shipped_models
    >>> sorted(shipped_models())
    ['commands12', 'commands12-stream', 'micro12', 'micro12-stream', 'words36', 'words36-stream']
    """
    names = sorted(name.removesuffix(".tflite") for name in os.listdir(_SHIPPED) if name.endswith(".tflite"))
    return {name: os.path.join(_SHIPPED, f"{name}.tflite") for name in names}


def _resolve(model: str | os.PathLike[str]) -> str:
    path = os.fspath(model)
    shipped = shipped_models()
    if path in shipped:
        return shipped[path]
    if os.path.isdir(path):
        raise ModelError(f"{path}: is a folder; name a .tflite file, or a shipped model: {', '.join(shipped)}")
    if not os.path.exists(path):
        raise ModelError(f"{path}: no such file, and no shipped model of that name; shipped are {', '.join(shipped)}")
    return path


def read_model(model: str | os.PathLike[str]) -> tuple[str, FlatModel, Metadata | None]:
    """Read a model file: path, flatbuffer and metadata. The metadata are None if this project did not make the file.

    Raises
    ------
    ModelError
        If the file is missing, damaged, or not a TFLite model.
    """
    path = _resolve(model)
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{path}: is a pipe or a device; name a .tflite file")
        if status.st_size > MOST_BYTES:
            raise ModelError(f"{path}: {status.st_size:,} bytes are too many for a keyword model")
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    flatbuffer, metadata = unpack(data, path)
    return path, FlatModel(flatbuffer, path), metadata


class Model:
    """A keyword model, ready to run.

    Parameters
    ----------
    model : str or path
        Name of a shipped model, or a ``.tflite`` file.
    labels : sequence of str, optional
        Names of the outputs, for a file without metadata or to override its own.
    frontend_config : FrontendConfig, optional
        Front end, for a file without metadata or to override its own.
    runtime, threads, kernels
        As for :class:`kws_edge.model.interpreter.Interpreter`.
    allow_float : bool
        Accept a model with float32 input and output.

    Attributes
    ----------
    path : str
    metadata : Metadata
    flat : kws_edge.model.tflite.FlatModel
        The file's structure; `input` and `output` are its tensors.
    interpreter : kws_edge.model.interpreter.Interpreter

    Raises
    ------
    ModelError
        If the file is missing, damaged, not quantised, or contradicts its labels or front end.
    ConfigError
        If `labels` cannot name outputs.
    RuntimeUnavailableError
        If no TFLite runtime can be loaded.

    Examples
    --------
    >>> from importlib.resources import files
    >>> from kws_edge import AudioFile, Model
    >>> model = Model("commands12")
    >>> with AudioFile(files("kws_edge") / "demo/stream.flac", sample_rate=16000) as source:
    ...     samples = source.read_all()
    >>> model.classify(samples[:16000]).label
    'yes'
    >>> model.labels[:4], model.frontend_config.sample_rate
    (('silence', 'unknown', 'yes', 'no'), 16000)
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        labels: Sequence[str] | None = None,
        frontend_config: FrontendConfig | None = None,
        runtime: str = "auto",
        threads: int = 1,
        kernels: str = "fast",
        allow_float: bool = False,
    ) -> None:
        self.path, self.flat, metadata = read_model(model)
        name = self.path
        self.size = os.path.getsize(name)
        if metadata is None:
            if labels is None or frontend_config is None:
                missing = ["labels"] * (labels is None) + ["front end"] * (frontend_config is None)
                raise ModelError(
                    f"{name}: says nothing of its {' and '.join(missing)}; it was not made by kws-edge, or was cut "
                    "short. Give --labels and --frontend to run a foreign model"
                )
            labels = check_labels("labels", labels)
            metadata = Metadata(labels=labels, frontend_config=frontend_config, name=self.stem)
        elif labels is not None or frontend_config is not None:
            metadata = dataclasses.replace(
                metadata,
                labels=metadata.labels if labels is None else check_labels("labels", labels),
                frontend_config=frontend_config or metadata.frontend_config,
            )
        self._open(metadata, allow_float, runtime=runtime, threads=threads, kernels=kernels)

    def _open(self, metadata: Metadata, allow_float: bool, **options: Any) -> None:
        self.metadata = metadata
        check_tensors(self.flat, metadata, allow_float=allow_float)
        kind = Interpreter if self.step is None else StepInterpreter
        self.interpreter: Interpreter = kind(self.flat, **options)
        check_levels(self.flat, metadata)
        self.confirming = self._second(**options) if metadata.confirm else None
        """The network that confirms the answers of a network with state, if the file has one."""

    def _second(self, **options: Any) -> Model:
        second = object.__new__(Model)
        second.path, second.size = f"{self.path} (confirming)", len(self.metadata.confirming)
        flatbuffer, metadata = unpack(self.metadata.confirming, second.path)
        second.flat = FlatModel(flatbuffer, second.path)
        if metadata is None:
            raise ModelError(f"{second.path}: says nothing of its labels; make the file anew with kws-host confirm")
        second._open(metadata, False, **options)
        check_confirming(self.metadata, metadata, second.path)
        return second

    @property
    def stem(self) -> str:
        """The file's name without its ending."""
        return os.path.splitext(os.path.basename(self.path))[0]

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of each output, in order."""
        return self.metadata.labels

    @property
    def frontend_config(self) -> FrontendConfig:
        """Settings of :attr:`frontend`, which computes the input."""
        return self.metadata.frontend_config

    @property
    def detector_config(self) -> DetectorConfig:
        """The file's detector settings, the default of a :class:`kws_edge.Spotter`."""
        return self.metadata.detector_config

    @property
    def step(self) -> StepConfig | None:
        """How a network with state answers; None for one that hears whole clips."""
        return self.metadata.step

    def operating_point(self, sensitivity: float) -> OperatingPoint:
        """Thresholds for a sensitivity from 0 to 1, by the file's measured operating points; 0.5 gives its own.

        Raises
        ------
        ConfigError
            If the file has no such points, or `sensitivity` is out of range.

        Examples
        --------
        Miss fewer commands, at the price of more false accepts::

            point = model.operating_point(0.7)
            print(point)
            spotter = Spotter(model, detector_config=point.applied(model.detector_config))
        """
        SENSITIVITY.check("sensitivity", sensitivity)
        if points := self.metadata.operating_points:
            return point_at(points, sensitivity)
        raise ConfigError(
            f"{self.path}: has no measured operating points for its thresholds, so it has no sensitivity to set; "
            "kws-edge calibrate chooses thresholds for your room, and kws-host calibrate measures the points"
        )

    def stepping(self, hop_frames: int | None = None) -> StepInterpreter:
        """A network with state for another stream; see :meth:`StepInterpreter.another`."""
        interpreter: Any = self.interpreter  # or one with the same methods, such as TFLite Micro's
        other: StepInterpreter = interpreter.another(hop_frames)
        return other

    def confirmer(self, hop_frames: int) -> Confirmer | None:
        """What confirms the answers of a new stream; None if no second network does."""
        if self.confirming is None or self.metadata.confirm is None:
            return None
        return Confirmer(self.confirming, self.metadata.confirm, self.labels, hop_frames)

    def hop_frames(self, step_ms: float) -> int:
        """Frames of each inference in a stream at the setting `step_ms`.

        A network with state gives whole answers. Of two multiples that are as near, it is the longer one, which costs
        less.
        """
        frames = self.frontend_config.frames_of(step_ms)
        if self.step is None:
            return frames
        return self.step.frames * max(1, int(frames / self.step.frames + 0.5))

    def answer_frames(self, hop_frames: int) -> int:
        """Frames from one posterior to the next in a stream, of which `hop_frames` are heard at a time."""
        return hop_frames if self.step is None else self.step.frames

    @cached_property
    def input(self) -> Tensor:
        """The input tensor; of a network with state that of the levels."""
        return self.flat.inputs[0]

    @cached_property
    def output(self) -> Tensor:
        """The output tensor; of a network with state that of the scores."""
        return self.flat.outputs[0]

    @cached_property
    def frontend(self) -> Frontend:
        """The front end for clips and streams of this model. Use it, like the interpreter, in one thread at a time."""
        try:
            return Frontend(self.frontend_config)
        except ConfigError as error:
            raise ModelError(f"{self.path}: its front end cannot be computed: {error}") from None

    def quantize(self, features: NDArray[np.float32]) -> NDArray[Any]:
        """Quantise features for the input tensor.

        Parameters
        ----------
        features : numpy.ndarray, shape frontend_config.feature_shape, float32
            Another number of values raises a ValueError.

        Returns
        -------
        numpy.ndarray, shape input.shape, of the input's dtype
        """
        tensor, features = self.input, features.reshape(self.input.shape)
        if tensor.dtype == "float32":
            return features.astype(np.float32)
        return quantize(features, tensor.scale, tensor.zero_point, tensor.dtype)

    def quantize_levels(self, levels: NDArray[np.float32], out: NDArray[Any]) -> None:
        """Quantise some frames of the model's own front end for the input tensor.

        Parameters
        ----------
        levels : numpy.ndarray, shape (n, n_mels), float32
        out : numpy.ndarray, same shape, of the input's dtype
        """
        if self._zero_point is not None:
            np.add(np.rint(levels), self._zero_point, out=out, casting="unsafe")
        elif self.input.dtype == "float32":
            out[:] = levels
        else:
            out[:] = quantize(levels, self.input.scale, self.input.zero_point, self.input.dtype)

    @cached_property
    def _zero_point(self) -> NDArray[np.float32] | None:
        """The input's zero point, if an input value is just the rounded level plus this zero point; or None."""
        low, high = self.frontend_config.level_min, self.frontend_config.level_max
        scale, zero_point = self.input.scale, self.input.zero_point
        if scale != 1 or low is None or high is None:
            return None
        limits = np.iinfo(self.input.dtype)
        within = limits.min <= round(low) + zero_point <= round(high) + zero_point <= limits.max
        return np.array(zero_point, np.float32) if within else None

    def dequantize(self, q: NDArray[Any]) -> NDArray[np.float32]:
        """Convert the output tensor's values to posteriors.

        Parameters
        ----------
        q : numpy.ndarray, shape output.shape, of the output's dtype

        Returns
        -------
        numpy.ndarray, float32
            Shape (len(labels),), or for a network with state (steps, len(labels)).
        """
        q = q.reshape(-1) if self.step is None else q.reshape(-1, len(self.labels))
        if self.output.dtype != "float32":
            return self._values.take(q)
        return q if self.step is None else posterior(q, self.step.score_offset)

    @cached_property
    def _values(self) -> NDArray[np.float32]:
        """The posterior of each of the 256 output values. A negative value is an index from the end."""
        codes = np.arange(256, dtype=np.uint8).view(self.output.dtype)
        values = dequantize(codes, self.output.scale, self.output.zero_point)
        return values if self.step is None else posterior(values, self.step.score_offset)

    def posteriors(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the posterior of each label, independent of earlier audio.

        A network with state gives its largest posteriors in the clip and in a quarter of a second of silence after it.

        Parameters
        ----------
        features : numpy.ndarray, shape frontend_config.feature_shape, float32

        Returns
        -------
        numpy.ndarray, shape (len(labels),), float32

        Raises
        ------
        AudioError
            If the features have another shape, or are not numbers.
        """
        if features.shape != self.frontend_config.feature_shape or not np.isfinite(features).all():
            expected, got = self.frontend_config.feature_shape, features.shape
            raise AudioError(
                f"features must be finite, of shape {expected}" + (f", got shape {got}" if got != expected else "")
            )
        if self.step is None:
            self.interpreter.reset()
            return self.dequantize(self.interpreter.invoke(self.quantize(features)))
        largest: NDArray[np.float32] = self._step_posteriors(features).max(axis=0)
        return largest

    def _step_posteriors(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        interpreter = self.stepping()
        hop, confirmer = interpreter.hop_frames, self.confirmer(interpreter.hop_frames)
        least = len(features) + self.frontend_config.frames_of(AFTER_MS)
        levels = np.tile(self.frontend.silence(), (-(-least // hop) * hop, 1))
        levels[: len(features)] = features
        found, q = [], np.empty((hop, levels.shape[1]), self.input.dtype)
        for part in levels.reshape(-1, hop, levels.shape[1]):
            self.quantize_levels(part, out=q)
            found.append(self.dequantize(interpreter.invoke(q[np.newaxis, :, np.newaxis])))
            if confirmer:
                confirmer.confirm(part, found[-1])
        return np.concatenate(found)

    def features(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """Compute the features of one clip, centred in the clip's length. It takes samples as :meth:`classify` does.

        Returns
        -------
        numpy.ndarray, shape frontend_config.feature_shape, float32
        """
        return self.frontend(samples)

    def classify(self, samples: NDArray[Any]) -> Classification:
        """Classify one clip of audio: compute its :meth:`features`, their :meth:`posteriors`, and decide by them.

        Parameters
        ----------
        samples : numpy.ndarray, shape (n,), int16 or floating in [-1, 1)
            At the front end's sample rate.

        Raises
        ------
        AudioError
            If the samples are not mono, have another type, or are not numbers.
        """
        return self.classification(self.posteriors(self.features(samples)))

    def classification(self, posteriors: NDArray[np.float32]) -> Classification:
        """Decide by the posteriors of a clip.

        See :func:`kws_edge.model.classification.classified`.

        Parameters
        ----------
        posteriors : numpy.ndarray, shape (len(labels),), float32
        """
        return classified(self.metadata, posteriors)
