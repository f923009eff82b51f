"""Labelled clips and precomputed features to test a model on, as levels of its front end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from host_tools.data.dataset import index_clips, index_labelled
from host_tools.data.features import model_input, raw_config, raw_to_levels, read_clip
from host_tools.data.label_sets import label_of
from host_tools.data.stored_features import load_features
from host_tools.errors import DatasetError
from host_tools.sampling.windows import Windows
from host_tools.shards.stored import LIST, ShardList
from kws_edge.config import FrontendConfig
from kws_edge.features.frontend import Frontend
from kws_edge.labels import SILENCE, UNKNOWN
from kws_edge.model.model import Model
from kws_edge.text import counted

if TYPE_CHECKING:  # it imports Keras, which model files do not need
    from host_tools.training.run import Run

__all__ = ["TestSet", "answers", "clip_set", "feature_set", "has_state"]


@dataclass(frozen=True)
class TestSet:
    """Labelled clips, or precomputed features, as levels of a front end."""

    __test__ = False  # tells pytest that this class is no test

    name: str
    items: tuple[str, ...]
    """The name of each example: a clip's path, or a row of precomputed features."""
    features: NDArray[np.float32]
    """Levels of the front end, shape (n, *feature_shape)."""
    truth: NDArray[np.int64]
    """Label indices."""
    skipped: tuple[str, ...] = ()
    """Lines on what was left out, and why."""
    recorded: bool = False
    """Whether the items are files of sound."""


def answers(subject: Model | Run) -> tuple[str, ...]:
    """The answers of a model to a clip: its labels.

    A model with a single output can also answer ``unknown``. A network with state, which tells of speech alone, can
    also answer ``silence``.
    """
    labels = subject.labels
    if has_state(subject):
        return labels if SILENCE in labels else (*labels, SILENCE)
    return labels if len(labels) > 1 else (*labels, UNKNOWN)


def has_state(subject: Model | Run) -> bool:
    """Whether a model file, or a run's network, is one with state."""
    return subject.step is not None if isinstance(subject, Model) else subject.config.network.streams


def clip_set(
    folder: str | Path,
    labels: Sequence[str],
    config: FrontendConfig,
    *,
    split: str | None = None,
    rule: str = "official",
    seed: int = 0,
    at_least: int = 1,
    own_labels: bool = False,
    progress: Callable[..., Any] = tqdm,
) -> TestSet:
    """Levels of the clips under ``folder/<label>/``, by kws_edge's front end. Unusable clips are skipped.

    Parameters
    ----------
    folder : path
    labels : sequence of str
        The model's :func:`answers`. Other folders count as unknown.
    config : FrontendConfig
    split : str, optional
        Part of the split to take clips from; by default all.
    rule, seed
        Kind and seed of the split; see :func:`host_tools.data.dataset.index_clips`.
    at_least : int
        Leave out labels with fewer clips than this.
    own_labels : bool
        Leave out folders that are no label of the model, instead of counting them as unknown.

    Raises
    ------
    DatasetError
        If the folder holds no such clips, or if a word is no label and the labels have no unknown.
    """
    pairs, left_out = _labelled(folder, split, rule, seed)
    sizes = Counter(word for _, word in pairs)
    pairs = [
        (path, word) for path, word in pairs if sizes[word] >= at_least and not (own_labels and word not in labels)
    ]
    if not pairs:
        raise DatasetError(f"{folder}: no {f'{split} ' if split else ''}clips left to evaluate on")
    frontend, used, features, skipped = Frontend(config), [], [], [str(one) for one in left_out]
    for path, word in progress(pairs, desc=str(folder), unit="clip", mininterval=0.5):
        try:
            features.append(frontend(read_clip(path, config)))
        except DatasetError as error:
            skipped.append(str(error))
        else:
            used.append((path, label_of(word, labels)))
    if not used:
        raise DatasetError(f"{folder}: none of its {counted(len(pairs), 'clip')} can be used, the last: {skipped[-1]}")
    return TestSet(
        str(folder) + (f" ({split})" if split else ""),
        tuple(str(path) for path, _ in used),
        np.stack(features),
        np.array([label for _, label in used]),
        tuple(skipped),
        recorded=True,
    )


def _labelled(
    folder: str | Path, split: str | None, rule: str, seed: int
) -> tuple[list[tuple[Path, str]], Sequence[object]]:
    """Clips with their words, and what was left out. The arguments are those of :func:`clip_set`."""
    if split is None:
        return index_labelled(folder)
    index = index_clips(folder, split=rule, seed=seed)
    pairs = [(c.path, c.word.strip("_")) for c in index.clips if c.split == split]
    return pairs, [*index.problems, *index.left_out]


def feature_set(
    folder: str | Path, labels: Sequence[str], config: FrontendConfig, *, split: str = "validation"
) -> TestSet:
    """Levels of precomputed features of a part of the official split.

    The parameters are those of :func:`clip_set`. The folder is one of
    :func:`host_tools.data.stored_features.load_features`, or of shards that ``kws-host features`` made.
    """
    if (Path(folder) / LIST).exists():
        return _sharded_set(Path(folder), labels, config, split)
    stored = load_features(folder, (config.n_frames, config.n_mels))
    rows = np.flatnonzero(stored.splits == split)
    if not len(rows):
        raise DatasetError(f"{folder}: no features of the {split} part")
    return TestSet(
        f"{folder} ({split})",
        tuple(f"{stored.words[i]}, row {i}" for i in rows),
        model_input(stored.levels[rows].astype(np.float32), config)[..., 0],
        np.array([label_of(stored.words[i], labels) for i in rows], int),
    )


def _sharded_set(folder: Path, labels: Sequence[str], config: FrontendConfig, split: str) -> TestSet:
    """Levels of all clips of a part of the split, from shards."""
    shards = ShardList.load(folder)
    if shards.frontend != raw_config(config):
        raise DatasetError(f"{folder}: features of another front end than the model's")
    if not (n := sum(shards.words.get(split, {}).values())):
        raise DatasetError(f"{folder}: no features of the {split} part")
    levels, words = Windows(folder, shards, labels, part=split, size=2 * n, seed=0).at(0)
    return TestSet(
        f"{folder} ({split})",
        tuple(f"{word}, row {i}" for i, word in enumerate(words)),
        model_input(raw_to_levels(levels.astype(np.float32), config), config)[..., 0],
        np.array([label_of(word, labels) for word in words], int),
    )
