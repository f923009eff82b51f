"""Folders of recordings laid out like Speech Commands: ``<word>/<speaker>_nohash_<n>.wav``.

The official split keeps every speaker in one part only: by the lists in the folder, or else by a hash of the speaker's
id. The random split does not, and says so.
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
    "SPLITS",
    "Clip",
    "FeatureSet",
    "empty_folders",
    "index_clips",
    "index_labelled",
    "label_of",
    "label_set",
    "load_features",
    "official_split",
    "random_split",
    "recordings",
    "shared_speakers",
]

BACKGROUND_FOLDER = "_background_noise_"
_MAX_CLIPS_PER_CLASS = 2**27 - 1  # constant of the dataset's split function

_COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
_OTHER_WORDS = (
    "backward", "bed", "bird", "cat", "dog", "eight", "five", "follow", "forward", "four", "happy", "house", "learn",
    "marvin", "nine", "one", "seven", "sheila", "six", "three", "tree", "two", "visual", "wow", "zero",
)  # fmt: skip

LABEL_SETS: dict[str, tuple[str, ...]] = {
    "commands12": (SILENCE, UNKNOWN, *_COMMANDS),
    "words36": (SILENCE, *sorted(_COMMANDS + _OTHER_WORDS)),
}
"""Labels by name, in the order of the model's outputs."""

SPLITS = ("official", "random")
_LISTS = {"validation": "validation_list.txt", "testing": "testing_list.txt"}
_RANDOM_SHARES = {"training": 0.70, "validation": 0.15, "testing": 0.15}


@dataclass(frozen=True)
class Clip:
    """A recorded word."""

    path: Path
    word: str
    speaker: str
    split: str


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


def random_split(groups: Sequence[str], *, seed: int) -> list[str]:
    """Part of a random split, 70 % training, 15 % validation, 15 % testing, of each clip, whoever speaks.

    Parameters
    ----------
    groups : sequence of str
        The word of each clip: every word is split by itself, in these shares.
    seed : int
        The same seed and the same words give the same split.
    """
    names, bounds = list(_RANDOM_SHARES), np.cumsum(list(_RANDOM_SHARES.values()))
    words, parts = np.array(groups), np.empty(len(groups), object)
    for i, word in enumerate(np.unique(words)):
        members = np.flatnonzero(words == word)
        place = (np.random.default_rng((seed, i)).permutation(len(members)) + 0.5) / len(members)
        parts[members] = [names[k] for k in np.searchsorted(bounds, place)]
    return list(parts)


def shared_speakers(clips: Sequence[Clip]) -> tuple[int, int]:
    """Number of speakers outside training who also speak in training, and number of all speakers outside training."""
    training = {c.speaker for c in clips if c.split == "training"}
    others = {c.speaker for c in clips if c.split != "training"}
    return len(training & others), len(others)


def label_set(spec: str) -> tuple[str, ...]:
    """Labels by the name of a set, or ``silence``, ``unknown`` and the words of a list such as ``hello,lamp``.

    Raises
    ------
    DatasetError
        If it is neither.
    """
    if spec in LABEL_SETS:
        return LABEL_SETS[spec]
    words = [word.strip() for word in spec.split(",") if word.strip()]
    if "," not in spec or not words:
        raise DatasetError(
            f"unknown label set {spec!r}; known are {', '.join(LABEL_SETS)}, or a list of words such as 'hello,lamp'"
        )
    twice = [word for word, n in count(words).items() if n > 1]
    if twice or {SILENCE, UNKNOWN} & set(words):
        raise DatasetError(f"labels {spec!r}: list each word once, without {SILENCE} and {UNKNOWN}, which are implied")
    return (SILENCE, UNKNOWN, *words)


def _speaker_of(path: Path) -> str:
    return re.sub(r"_nohash_.*$", "", path.stem)


def _folder(path: str | Path) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder")
    return folder


def _word_folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "_")))


def empty_folders(folder: str | Path) -> list[Path]:
    """Word folders without a single ``.wav``."""
    return [word for word in _word_folders(_folder(folder)) if not any(word.glob("*.wav"))]


def index_clips(folder: str | Path, *, split: str = "official", seed: int = 0) -> list[Clip]:
    """Every clip of a Speech Commands folder, sorted, with its part of the split.

    Parameters
    ----------
    folder : path
    split : str
        ``official``: by ``validation_list.txt`` and ``testing_list.txt`` where the folder has them with entries, or
        else by :func:`official_split`. ``random``: by :func:`random_split`, as the reference system has it.
    seed : int
        Of the random split.

    Raises
    ------
    DatasetError
        If the folder does not exist or holds no ``<word>/*.wav``, or there is no such split.
    """
    folder = _folder(folder)
    if split not in SPLITS:
        raise DatasetError(f"unknown split {split!r}; known are {', '.join(SPLITS)}")
    found = [(path, word.name) for word in _word_folders(folder) for path in sorted(word.glob("*.wav"))]
    if not found:
        raise DatasetError(f"{folder}: no clips of the form <word>/<speaker>_nohash_<n>.wav in it")
    if split == "random":
        parts = random_split([word for _, word in found], seed=seed)
    elif listed := _listed(folder):
        parts = [listed.get(f"{word}/{path.name}", "training") for path, word in found]
    else:
        parts = [official_split(_speaker_of(path)) for path, _ in found]
    return [Clip(path, word, _speaker_of(path), part) for (path, word), part in zip(found, parts, strict=True)]


def _listed(folder: Path) -> dict[str, str]:
    """Part of the split by ``<word>/<file>``, as the folder's lists say."""
    listed = {}
    for part, name in _LISTS.items():
        if (folder / name).exists():
            listed.update(dict.fromkeys((folder / name).read_text().split(), part))
    return listed


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


def recordings(folder: str | Path, half: str | None = None) -> list[Path]:
    """Recordings without keywords anywhere under `folder`, or one half of them: ``training`` or ``reporting``.

    The group that goes into one half as a whole is the LibriSpeech speaker (``<speaker>-<chapter>-<utterance>``), or
    else the recording that a clip was cut from (ESC-50's ``<fold>-<recording>-<take>...``), or else the file.

    Raises
    ------
    DatasetError
        If there are none.
    """
    folder = _folder(folder)
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".wav", ".flac", ".ogg"))
    if half:
        paths = [path for path in paths if _half(group_of(path)) == half]
    if not paths:
        raise DatasetError(f"{folder}: no recordings in it" + (f" of the {half} half" if half else ""))
    return paths


def group_of(path: Path) -> str:
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
