"""Folders of recordings laid out like Speech Commands: ``<word>/<speaker>_nohash_<n>.wav``.

The split is the dataset's own: a hash of the speaker's id, so that a speaker is in one part only.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from host_tools.errors import DatasetError
from kws_edge.labels import SILENCE, UNKNOWN

__all__ = [
    "BACKGROUND_FOLDER",
    "LABEL_SETS",
    "Clip",
    "FeatureSet",
    "Recording",
    "index_clips",
    "index_labelled",
    "index_recordings",
    "label_of",
    "load_features",
    "official_split",
]

BACKGROUND_FOLDER = "_background_noise_"
_MAX_CLIPS_PER_CLASS = 2**27 - 1  # constant of the dataset's split function

LABEL_SETS: dict[str, tuple[str, ...]] = {
    "commands12": (SILENCE, UNKNOWN, "yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"),
}
"""Labels by name, in the order of the model's outputs."""


@dataclass(frozen=True)
class Clip:
    """A recorded word."""

    path: Path
    word: str
    speaker: str
    split: str


@dataclass(frozen=True)
class Recording:
    """A recording without keywords, assigned to the half that trains or the half that reports."""

    path: Path
    kind: str
    """``speech`` or ``noise``."""
    half: str
    """``training`` or ``reporting``."""


@dataclass(frozen=True)
class FeatureSet:
    """Precomputed uint8 features with their words, speakers and splits, in row order."""

    levels: np.ndarray
    words: np.ndarray
    speakers: np.ndarray
    splits: np.ndarray


def official_split(speaker: str, *, validation_percent: float = 10.0, testing_percent: float = 10.0) -> str:
    """Part of the official Speech Commands split that `speaker` belongs to.

    Source: ``which_set`` in the dataset's own README.

    Returns
    -------
    str
        ``training``, ``validation`` or ``testing``.
    """
    digest = int(hashlib.sha1(speaker.encode()).hexdigest(), 16)
    percent = (digest % (_MAX_CLIPS_PER_CLASS + 1)) * (100.0 / _MAX_CLIPS_PER_CLASS)
    if percent < validation_percent:
        return "validation"
    return "testing" if percent < validation_percent + testing_percent else "training"


def _speaker_of(path: Path) -> str:
    return re.sub(r"_nohash_.*$", "", path.stem)


def _folder(path: str | Path) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder")
    return folder


def index_clips(folder: str | Path) -> list[Clip]:
    """Every clip of a Speech Commands folder, sorted, with its official split.

    Raises
    ------
    DatasetError
        If the folder does not exist or holds no ``<word>/*.wav``.
    """
    folder = _folder(folder)
    clips = [
        Clip(path, word.name, _speaker_of(path), official_split(_speaker_of(path)))
        for word in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "_")))
        for path in sorted(word.glob("*.wav"))
    ]
    if not clips:
        raise DatasetError(f"{folder}: no clips of the form <word>/<speaker>_nohash_<n>.wav in it")
    return clips


def index_labelled(folder: str | Path) -> list[tuple[Path, str]]:
    """Clips of a folder whose sub-folders are labels (``_silence_`` and ``_unknown_`` as in the official test set).

    Returns
    -------
    list of (path, label), sorted; labels without the surrounding underscores.
    """
    folder = _folder(folder)
    pairs = [
        (path, sub.name.strip("_"))
        for sub in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        if sub.name != BACKGROUND_FOLDER
        for path in sorted(sub.glob("*.wav"))
    ]
    if not pairs:
        raise DatasetError(f"{folder}: no clips of the form <label>/*.wav in it")
    return pairs


def _half(group: str) -> str:
    return "training" if hashlib.sha1(group.encode()).digest()[0] % 2 == 0 else "reporting"


def index_recordings(folder: str | Path, kind: str) -> list[Recording]:
    """Recordings without keywords anywhere under `folder`, in two halves by speaker (or by file).

    The group that goes into one half as a whole is the LibriSpeech speaker (``<speaker>-<chapter>-<utterance>``), or
    else the recording that a clip was cut from (ESC-50's ``<fold>-<recording>-<take>...``), or else the file.
    """
    folder = _folder(folder)
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".wav", ".flac", ".ogg"))
    if not paths:
        raise DatasetError(f"{folder}: no recordings in it")
    return [Recording(path, kind, _half(_group_of(path))) for path in paths]


def _group_of(path: Path) -> str:
    parts = path.stem.split("-")
    if len(parts) == 3 and all(p.isdigit() for p in parts):
        return parts[0]
    return "-".join(parts[:2]) if len(parts) > 2 else path.stem


def label_of(word: str, labels: Sequence[str]) -> int:
    """Index of `word` among `labels`; of ``unknown`` if it is not one of them.

    Raises
    ------
    DatasetError
        If neither is a label.
    """
    word = word.strip("_")
    if word in labels:
        return labels.index(word)
    if UNKNOWN in labels:
        return labels.index(UNKNOWN)
    raise DatasetError(f"the word {word!r} is not among the labels {', '.join(labels)}, and there is no {UNKNOWN!r}")


def load_features(folder: str | Path, feature_shape: tuple[int, int]) -> FeatureSet:
    """Precomputed features: ``features.npy``, uint8 (n, frames, mels), memory-mapped, and ``manifest.tsv``.

    Parameters
    ----------
    folder : path
        Holds both files; the manifest has the columns word, speaker and split.
    feature_shape : (frames, mels)
        Shape that the front end gives.

    Raises
    ------
    DatasetError
        If a file is missing, or shapes or row counts disagree.
    """
    folder = _folder(folder)
    try:
        levels = np.load(folder / "features.npy", mmap_mode="r")
        with open(folder / "manifest.tsv", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        columns = [np.array([row[name] for row in rows]) for name in ("word", "speaker", "split")]
    except OSError as error:
        raise DatasetError(f"{folder}: {error.strerror or error}: {error.filename}") from None
    except (ValueError, KeyError) as error:
        raise DatasetError(f"{folder}: broken features.npy or manifest.tsv ({error})") from None
    if levels.dtype != np.uint8 or levels.shape[1:] != feature_shape:
        raise DatasetError(
            f"{folder}/features.npy: expected uint8 of shape (n, {feature_shape[0]}, {feature_shape[1]}) for this "
            f"front end, got {levels.dtype} {levels.shape}"
        )
    if len(rows) != len(levels):
        raise DatasetError(f"{folder}: manifest.tsv has {len(rows)} rows, features.npy {len(levels)}")
    return FeatureSet(levels, *columns)


def count(values: Iterable[str]) -> dict[str, int]:
    """Number of times each value occurs, by value."""
    names, counts = np.unique(list(values), return_counts=True)
    return {str(n): int(c) for n, c in zip(names, counts, strict=True)}
