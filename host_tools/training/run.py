"""A run: the folder that a training writes, with weights, log, examples and record."""

from __future__ import annotations

import json
import math
import sys
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

import host_tools.networks.heeding
import host_tools.networks.models
import host_tools.networks.qat  # noqa: F401  all register our layers, without which networks cannot be loaded
from host_tools.config import StageConfig
from host_tools.data.features import span_range
from host_tools.data.origins import origins_of
from host_tools.data.stored_features import NPY_DAMAGE
from host_tools.errors import TrainingError, broken
from host_tools.networks.own_network import is_own, source_of
from kws_edge.config import FrontendConfig
from kws_edge.files import write_atomically

__all__ = ["BEST", "CONFIG", "DAMAGE", "LAST", "PROBLEMS", "Run", "load_run", "write_record"]

BEST = "best.keras"
LAST = "last.keras"
CONFIG = "config.json"
_KEPT = "examples.npz"
PROBLEMS = "problems.txt"
_TAKEN = {"path": str, "sha256": str, "files": int, "bytes": int}
DAMAGE = (  # what Keras and NumPy raise for a file that is cut short or of another kind
    *NPY_DAMAGE,
    OSError,
    KeyError,
    AttributeError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Run:
    """The folder of a finished or interrupted run."""

    folder: Path
    config: StageConfig
    record: dict
    """Content of ``config.json``: configuration, data, versions, and the best epoch so far."""

    @property
    def frontend_config(self) -> FrontendConfig:
        return FrontendConfig.from_dict(self.record["front_end"])

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.record["labels"])

    @property
    def origins(self) -> list[str]:
        """Origins of the words that trained this run and the weights that it started from."""
        return origins_of(self.record["data"], self.labels)

    def weights_file(self) -> Path:
        """The file of the network with its best weights.

        Raises
        ------
        TrainingError
            If no epoch has finished yet.
        """
        path = self.folder / BEST
        if not path.exists():
            raise TrainingError(f"{path}: missing; no epoch of this run has finished yet")
        return path

    def model(self) -> keras.Model:
        """The network with its best weights.

        Raises
        ------
        TrainingError
            If no epoch has finished yet, the file is broken, or the module of the user's own network is missing.
        """
        path = self.weights_file()
        self.import_network()
        try:
            return keras.models.load_model(path, compile=False)
        except DAMAGE as error:
            raise broken(path, error) from None

    def import_network(self) -> None:
        """Import the module of the user's own network. Its layers cannot be loaded without it.

        Raises
        ------
        TrainingError
            If the module is missing.
        """
        if not is_own(self.config.network.model):
            return
        trained = self.record["network"]
        try:
            source = source_of(self.config.network.model)
        except TrainingError as error:
            raise TrainingError(f"{self.folder}: trained with {trained['file']}: {error}") from None
        if source["sha256"] != trained["sha256"]:
            print(f"kws-host: warning: {source['file']} has changed since {self.folder} was trained", file=sys.stderr)

    def _stored(self, *names: str) -> list[np.ndarray]:
        """Arrays that training kept.

        Raises
        ------
        TrainingError
            If they cannot be read.
        """
        path = self.folder / _KEPT
        try:
            with open(path, "rb") as file, np.load(file) as stored:
                return [stored[name] for name in names]
        except DAMAGE as error:
            raise broken(path, error) from None

    def examples(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Examples that training on clips set aside.

        They are those of ``validation``, or of ``calibration`` with training examples evenly by label.

        Returns
        -------
        inputs : numpy.ndarray, shape (n, *frontend_config.feature_shape, 1), float32
        truth : numpy.ndarray, shape (n,), int
        """
        inputs, truth = self._stored(part, f"{part}_truth")
        shape = (*self.frontend_config.feature_shape, 1)
        if inputs.shape != (len(truth), *shape) or inputs.dtype != np.float32 or truth.dtype.kind != "i":
            path = self.folder / _KEPT
            raise TrainingError(f"{path}: holds {inputs.dtype} {inputs.shape}, not examples of the run's front end")
        return inputs, truth

    def sequences(self, part: str) -> np.ndarray:
        """Sequences that training of a network with state set aside: ``validation`` or ``calibration``.

        Returns
        -------
        numpy.ndarray, shape (n, frames, 1, frontend_config.n_mels), float32
        """
        (levels,) = self._stored(part)
        if levels.ndim != 4 or levels.shape[2:] != (1, self.frontend_config.n_mels) or levels.dtype != np.float32:
            path = self.folder / _KEPT
            raise TrainingError(f"{path}: holds {levels.dtype} {levels.shape}, not sequences of the run's front end")
        return levels

    def sequence_words(self) -> np.ndarray:
        """The words of the validation sequences; see :attr:`host_tools.sampling.sequences.Sequences.words`."""
        (words,) = self._stored("validation_words")
        if words.ndim != 2 or words.shape[1] != 5 or words.dtype.kind != "i":
            raise TrainingError(f"{self.folder / _KEPT}: holds {words.dtype} {words.shape}, not words of sequences")
        return words

    def keep_examples(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep arrays for :meth:`examples`, :meth:`sequences` and :meth:`sequence_words`."""
        write_atomically(self.folder / _KEPT, lambda path: np.savez(path, **dict[str, Any](arrays)))

    def calibration(self, n: int, *, seed: int) -> np.ndarray:
        """`n` of the calibration examples, chosen by `seed`.

        They span the range of the front end's levels; see :func:`host_tools.data.features.span_range`.

        Returns
        -------
        numpy.ndarray, shape (n, *feature_shape, 1), float32
            Of a network with state, sequences of shape (n, frames, 1, n_mels).

        Raises
        ------
        TrainingError
            If there are fewer than `n` examples.
        """
        streams = self.config.network.streams
        inputs = self.sequences("calibration") if streams else self.examples("calibration")[0]
        if not 1 <= n <= len(inputs):
            raise TrainingError(f"{n} calibration examples asked for; the run kept {len(inputs)}")
        chosen = inputs[np.random.default_rng(seed).permutation(len(inputs))[:n]]
        return span_range(chosen, self.frontend_config)


def load_run(folder: str | Path) -> Run:
    """Open a run's folder.

    Raises
    ------
    TrainingError
        If `folder` is no run's folder.
    """
    folder = Path(folder)
    path = folder / CONFIG
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        run = Run(folder, StageConfig.from_dict(record["config"]), record)
        _check_record(run)
        return run
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror}; {folder} is no folder of a `kws-host train`") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise broken(path, error) from None


def _check_record(run: Run) -> None:
    """Raise an error, as JSON and dictionaries do, if a value besides the configuration has the wrong type."""
    if not run.labels or not all(isinstance(label, str) for label in run.labels):
        raise TypeError("labels are not a list of texts")
    _ = run.frontend_config
    best = run.record.get("best", {})
    data = run.record["data"]
    if not isinstance(data, dict) or not isinstance(best, dict):
        raise TypeError("data and best are not objects")
    if not isinstance(run.origins, list) or not all(isinstance(origin, str) for origin in run.origins):
        raise TypeError("origins are not a list of texts")
    sources, weights = run.record["sources"], run.record.get("weights", {})
    if not all(isinstance(one, dict) for one in (run.record["versions"], sources, weights)):
        raise TypeError("versions, sources and weights are not objects")
    for one in (one for taken in (*sources.values(), *weights.values()) for one in taken):
        if not all(isinstance(one[name], kind) for name, kind in _TAKEN.items()):
            raise TypeError("sources and weights do not say path, checksum, files and bytes of each")
    given = {name: len(folders) for name, folders in run.config.data.folders().items()}
    if {name: len(folders) for name, folders in sources.items()} != given:
        raise ValueError("sources are others than its configuration names")
    if is_own(run.config.network.model) and not {"file", "sha256"} <= dict(run.record["network"]).keys():
        raise TypeError("network does not say which file it is from")
    if best and not all(math.isfinite(best[name]) for name in ("epoch", "val_loss", *best)):
        raise ValueError("the best epoch's values are not finite")


def write_record(run: Run) -> None:
    """Write ``config.json``, whole or not at all."""
    write_atomically(run.folder / CONFIG, json.dumps(run.record, indent=2) + "\n")
