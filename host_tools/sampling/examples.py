"""The examples of training and validation: clips, precomputed features and recordings without keywords."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from host_tools.config import DataConfig
from host_tools.data.dataset import Voices, count
from host_tools.data.features import levels_to_raw
from host_tools.data.label_sets import label_name, label_of
from host_tools.sampling.augment import silent_raw
from host_tools.sampling.bank import Bank, windows
from host_tools.sampling.coverage import check_sources, notes, require
from host_tools.sampling.reading import ClipReader, TrainingWords, add_clips, read_banks
from host_tools.sampling.tracks import Tracks
from host_tools.sampling.windows import Windows
from kws_edge.config import FrontendConfig
from kws_edge.labels import SILENCE, UNKNOWN, is_keyword

__all__ = ["Examples", "load_examples"]


Sounds = TypeVar("Sounds")
"""Recordings without keywords: a :class:`Bank` for clips, :class:`Tracks` for sequences."""


_SHARDED = "sharded"
_MOST_VALIDATING = 16_384
"""Clips of features in shards that validate, at most: 250 MB."""


@dataclass
class Examples(Generic[Sounds]):
    """Raw levels of training words by label, sounds without keywords, and a fixed validation set."""

    config: FrontendConfig
    labels: tuple[str, ...]
    stores: list[np.ndarray]
    """Arrays (n, frames, mels) of float16 raw levels or uint8 output levels. Examples are numbered across arrays."""
    kinds: list[str]
    """Origin of each store: ``recorded``, ``synthetic``, ``precomputed``, ``site`` or ``sharded``."""
    by_word: dict[str, np.ndarray]
    """Numbers of the training examples of each word."""
    noise: Sounds
    speech: Sounds
    validation: tuple[np.ndarray, np.ndarray]
    """Raw levels, float32 (k, frames, mels), and label indices."""
    summary: dict
    """Numbers of examples, for the run's record."""
    problems: list[str]
    """Lines on what was left out, and on what a user should know about the data."""
    windows: Windows | None = None
    """Features in shards. The last store is the window of them that :meth:`turn` took."""
    _epoch: int | None = field(default=None, init=False)
    """The epoch of that window."""
    _lasting: tuple[list[np.ndarray], list[str], dict[str, np.ndarray]] = field(default=([], [], {}), init=False)
    """Stores, kinds and numbers by word without it."""

    def turn(self, epoch: int) -> bool:
        """Take the window of an epoch of features in shards. Returns whether the examples are others than before."""
        if self.windows is None or self._epoch == epoch or (self.windows.whole and self._epoch is not None):
            return False
        if self._epoch is None:
            self._lasting = self.stores, self.kinds, self.by_word
        stores, kinds, by_word = self._lasting
        window, begin = self.windows.at(epoch), sum(map(len, stores))
        self.stores, self.kinds = [*stores, window.levels], [*kinds, _SHARDED]
        order = np.argsort(window.words, kind="stable")
        words, starts = np.unique(window.words[order], return_index=True)
        taken = dict(zip(map(str, words), np.split(begin + order, starts[1:]), strict=True)) if len(words) else {}
        self.by_word = {
            word: np.concatenate([one[word] for one in (by_word, taken) if word in one])
            for word in sorted({*by_word, *taken})
        }
        self._epoch = epoch
        return True

    def count(self, word: str) -> int:
        """Number of training examples of a word, also of those in no window yet."""
        lasting = self.by_word if self._epoch is None else self._lasting[2]
        return len(lasting.get(word, ())) + self._in_shards(word)

    def count_of(self, word: str, kind: str, here: int) -> int:
        """Number of training examples of a word and kind, of which `here` are in the stores."""
        return self._in_shards(word) if kind == _SHARDED else here

    def _in_shards(self, word: str) -> int:
        return self.windows.totals.get(word, 0) if self.windows else 0

    def count_recorded(self, word: str) -> int:
        """Number of training examples of a word that no synthesiser made, and that are here in every epoch."""
        ends = np.cumsum([len(store) for store in self.stores])
        kinds = np.array(self.kinds)[np.searchsorted(ends, self.by_word[word], side="right")]
        passing = self.windows is not None and not self.windows.whole
        return int(((kinds != "synthetic") & ~(passing & (kinds == _SHARDED))).sum())

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """Raw levels of the examples with these numbers, float32."""
        out = np.empty((len(numbers), self.config.n_frames, self.config.n_mels), np.float32)
        first = 0
        for store in self.stores:
            here = (numbers >= first) & (numbers < first + len(store))
            rows = store[numbers[here] - first]
            out[here] = levels_to_raw(rows, self.config) if store.dtype == np.uint8 else rows
            first += len(store)
        return out


def load_examples(
    data: DataConfig,
    config: FrontendConfig,
    labels: Sequence[str],
    *,
    audio_copies: int = 0,
    seed: int = 0,
    sequence_frames: int = 0,
) -> Examples[Any]:
    """Index the data and compute the levels that training needs.

    `data.clips` is a Speech Commands folder. `features` is a folder of precomputed features or of shards. `speech` and
    `noise` are recordings without keywords. Only the training half of these recordings, and of the voices of
    `synthetic`, is used. All of `more_speech`, `more_noise` and `site` is used. Background noise inside the clips'
    folder is noise, too. If no recording validates a label, synthetic voices that do not train validate it.

    Files that are unreadable, cut short or empty are left out and listed in :attr:`Examples.problems`. So are empty
    folders of words, entries of split lists without a clip, and facts that the validation set does not tell.

    Parameters
    ----------
    data : DataConfig
    config : FrontendConfig
    labels : sequence of str
    audio_copies : int
        Copies of each training clip, varied as audio. They are drawn like the clips themselves.
    seed : int
        Seed of the random split, the copies and the validation set's silence.
    sequence_frames : int
        If it is not 0, noise and speech are :class:`Tracks` of sequences of this length.

    Raises
    ------
    DatasetError
        If a folder is wrong, or a label has no training or no validation example. If the names of files tell, nothing
        is computed before.
    """
    files = check_sources(data, config, labels, seed=seed)
    stand_ins = files.stand_ins(labels)
    words = TrainingWords()
    clips = ClipReader(files.left_out, config, data.cache)
    recorded = add_clips(words, files, clips, audio_copies=audio_copies, seed=seed)
    held_out = [c for c in files.recorded if c.split == "validation"]
    levels, usable, heard = clips.levels([*held_out, *stand_ins], "validation clips")
    validation = (levels[usable].astype(np.float32), heard)
    windows, stored = None, files.stored
    if files.shards and data.features is not None:
        cut = functools.partial(Windows, data.features, files.shards, labels, seed=seed)
        windows = cut(part="training", size=data.window)
        held = cut(part="validation", size=_MOST_VALIDATING).at(0)
        validation = (np.concatenate([validation[0], held.levels]), [*heard, *map(str, held.words)])
    elif data.features is not None:
        rows = np.flatnonzero(stored.splits == "training")
        words.add("precomputed", stored.levels, rows, stored.words[rows].astype(object))
    rows = np.flatnonzero(stored.splits == "validation")
    validation_features = (stored.levels[rows], [str(word) for word in stored.words[rows]])
    kind, length = (Tracks, sequence_frames) if sequence_frames else (Bank, config.n_frames)
    noise, speech = (kind(length, float(silent_raw(config))) for _ in range(2))
    minutes = read_banks(files, config, noise, speech)
    validated = {*validation[1], *validation_features[1]}
    trained = Counter(map(str, words.words)) + Counter(windows.totals if windows else {})
    require(data.source, labels, trained, validated, noise=bool(noise), speech=bool(speech), left_out=files.left_out)

    rng = np.random.default_rng(seed)
    validation_set = _validation_set(validation, validation_features, noise, speech, config, labels, rng)
    summary = {
        "split": data.split,
        "training": _by_label(trained, labels),
        "validation": count(labels[i] for i in validation_set[1]),
        **minutes,
        "left_out": sum(one.files for one in files.left_out),
        "origins": files.origins,
        "same_voices": Voices.of(files.recorded).words,
    }
    recorded |= {*stored.words[stored.splits == "training"], *(windows.totals if windows else ())}
    told = notes(files, [w for w in labels if is_keyword(w) and w not in recorded], stand_ins)
    problems = [*told, *files.problems, *map(str, files.left_out)]
    examples = Examples(
        config,
        tuple(labels),
        words.stores,
        words.kinds,
        words.by_word(),
        noise,
        speech,
        validation_set,
        summary,
        problems,
        windows,
    )
    examples.turn(0)
    return examples


def _by_label(words: Mapping[str, int], labels: Sequence[str]) -> dict[str, int]:
    """Numbers of examples by the label that they are trained as."""
    totals: Counter[str] = Counter()
    for word, n in words.items():
        totals[label_name(labels, word)] += n
    return dict(sorted(totals.items()))


def _validation_set(
    clips: tuple[np.ndarray, list[str]],
    features: tuple[np.ndarray, list[str]],
    noise: Bank | Tracks,
    speech: Bank | Tracks,
    config: FrontendConfig,
    labels: Sequence[str],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Raw levels and label indices of the validation set.

    With an unknown class it is made like the official test set: ``unknown`` and ``silence`` have as many examples as a
    keyword. Clips come first, and precomputed features fill up labels with few clips. Without an unknown class it holds
    all examples, and silence.

    Parameters
    ----------
    clips, features : tuple
        Raw levels of clips, output levels of precomputed features, and the word of each.

    Returns
    -------
    As :attr:`Examples.validation`.
    """
    candidates: dict[int, list[np.ndarray]] = {i: [] for i in range(len(labels))}
    for raw, word in zip(*clips, strict=True):
        candidates[label_of(word, labels)].append(raw.astype(np.float32))
    keyword = [len(candidates[i]) for i, name in enumerate(labels) if name not in (SILENCE, UNKNOWN)]
    target = max(50, int(np.median(keyword)))
    extra: dict[int, list[np.ndarray]] = {i: [] for i in range(len(labels))}
    for row, word in zip(*features, strict=True):
        extra[label_of(word, labels)].append(levels_to_raw(row, config))
    raw_rows, truth = [], []
    for i, name in enumerate(labels):
        if name == SILENCE and isinstance(noise, Bank):
            rows = list(windows(noise, target, rng, config))
        elif name == UNKNOWN and not candidates[i] and not extra[i] and isinstance(speech, Bank):
            rows = list(speech.draw(target, rng))
        else:
            rng.shuffle(candidates[i])
            rng.shuffle(extra[i])
            rows = candidates[i] + extra[i]
            if UNKNOWN in labels:
                rows = rows[: target if name == UNKNOWN else max(target, len(candidates[i]))]
        raw_rows.extend(rows)
        truth.extend([i] * len(rows))
    return np.stack(raw_rows), np.array(truth)
