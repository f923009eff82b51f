"""Precomputed features of clips in a folder: ``features.npy`` and ``manifest.tsv``."""

from __future__ import annotations

import csv
import dataclasses
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host_tools.data.label_sets import spelt
from host_tools.data.recordings import existing_folder
from host_tools.data.splits import PARTS, random_split
from host_tools.errors import DatasetError

__all__ = ["NPY_DAMAGE", "FeatureSet", "load_features"]

NPY_DAMAGE = (  # what NumPy raises for a file whose header is wrong
    ValueError,
    EOFError,
    OverflowError,
    MemoryError,
    RecursionError,
    TypeError,
    SyntaxError,
    tokenize.TokenError,
)


@dataclass(frozen=True)
class FeatureSet:
    """Precomputed uint8 features with their words, speakers and splits, in row order."""

    levels: NDArray[np.uint8]
    words: NDArray[np.str_]
    speakers: NDArray[np.str_]
    splits: NDArray[np.str_]

    def split_at_random(self, seed: int) -> FeatureSet:
        """The same features with the parts of :func:`host_tools.data.splits.random_split`."""
        return dataclasses.replace(self, splits=np.array(random_split(list(self.words), seed=seed)))


def load_features(folder: str | Path, feature_shape: tuple[int, int]) -> FeatureSet:
    """Precomputed features: ``features.npy``, uint8 (n, frames, mels), memory-mapped, and ``manifest.tsv``.

    Parameters
    ----------
    folder : path
        Folder of both files. The manifest has the columns word, speaker and split.
    feature_shape : (frames, mels)
        Shape that the front end gives.

    Raises
    ------
    DatasetError
        If a file is missing, or shapes or row counts disagree.
    """
    folder = existing_folder(folder)
    levels, columns = _levels(folder / "features.npy"), _manifest(folder / "manifest.tsv")
    if levels.dtype != np.uint8 or levels.shape[1:] != feature_shape:
        raise DatasetError(
            f"{folder}/features.npy: expected uint8 of shape (n, {feature_shape[0]}, {feature_shape[1]}) for this "
            f"front end, got {levels.dtype} {levels.shape}"
        )
    if len(columns[0]) != len(levels):
        raise DatasetError(f"{folder}: manifest.tsv has {len(columns[0])} rows, features.npy {len(levels)}")
    return FeatureSet(levels, *columns)


def _levels(path: Path) -> NDArray[Any]:
    """The array of a ``.npy`` file, memory-mapped. Pickled objects are refused."""
    try:
        if not path.is_file():
            raise DatasetError(f"{path}: no such file")
        with open(path, "rb") as file:
            start = file.read(12)
        if start[6:7] > b"\1" and int.from_bytes(start[8:], "little") > 2**16:
            raise ValueError("its header is too large")
        return np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}") from None
    except NPY_DAMAGE as error:
        raise DatasetError(f"{path}: is no whole NumPy array ({' '.join(str(error).split())[:100]})") from None


def _manifest(path: Path) -> list[NDArray[np.str_]]:
    """Words, speakers and parts of the split, one of each row."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter="\t", strict=True)
            rows: list[list[str]] = []
            for row in reader:
                values = [value for name in ("word", "speaker", "split") if (value := row.get(name)) is not None]
                if len(values) < 3 or values[2] not in PARTS:
                    raise DatasetError(
                        f"{path}, line {reader.line_num}: the columns word, speaker and split are expected, the last "
                        f"of {', '.join(PARTS)}"
                    )
                rows.append([spelt(value) for value in values])
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}") from None
    except (ValueError, csv.Error) as error:
        raise DatasetError(f"{path}: is no table separated by tabs ({error})") from None
    return [np.array([row[i] for row in rows], dtype=str) for i in range(3)]
