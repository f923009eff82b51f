"""The words that a user has taught, and their file."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kws_edge.errors import ConfigError
from kws_edge.files import write_atomically
from kws_edge.labels import check_labels, is_keyword
from kws_edge.teach.encoder import Encoder, normalised
from kws_edge.teach.listener import BUDGET, TaughtListener, share
from kws_edge.teach.takes import SHIFTS, Take, TakeError, augmented
from kws_edge.teach.word import THRESHOLD, TaughtWord
from kws_edge.teach.wrong import learnt, scores
from kws_edge.text import counted, parse_json, read_text, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kws_edge.config import DetectorConfig
    from kws_edge.model.model import Model

__all__ = ["BACKUP", "LEAST_TAKES", "MOST_TAKES", "TaughtWords", "taught_path"]

_FORMAT = 1
LEAST_TAKES, MOST_TAKES = 3, 10
_MOST_WORDS = 100
BACKUP = ".bak"
"""Ending of the copy of the file that is read if the file itself is damaged."""
MATCH = 0.3
"""Cosine of a take to the mean of the others, below which it is another word."""
NEAR = 0.65
"""Cosine of two words, from which on they would be taken for one another."""
_SEED = 1
_UNUSABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


def taught_path(model: Model) -> str:
    """Default path of the words taught to `model`: ``taught-<file's stem>.json`` beside its room profile."""
    from kws_edge.detection.room_profile import profile_path

    return os.path.join(os.path.dirname(profile_path(model)), f"taught-{model.stem}.json")


class TaughtWords(Mapping[str, TaughtWord]):
    """Words taught to one model, by name.

    Every change is written at once: to the file, whole or not at all, then to a copy of it.

    Parameters
    ----------
    model : kws_edge.Model
    path : path, optional
        File of the words; by default :func:`taught_path`. It need not exist.

    Attributes
    ----------
    encoder : kws_edge.teach.encoder.Encoder
    path : str
    repaired : str
        What was wrong with the file, if its copy was read in its place; otherwise empty.

    Raises
    ------
    ModelError
        If the model has no encoder.
    ConfigError
        If the file and its copy cannot be used, or were made with another model.

    Examples
    --------
    >>> from kws_edge import Model, Spotter, TaughtWords
    >>> model = Model("commands12")
    >>> words = TaughtWords(model, "taught.json")
    >>> list(words), words.check_name("lamp")
    ([], 'lamp')

    Teach a word from recordings, then listen for it::

        takes = [find_word(samples, 16000) for samples in recordings]
        words.teach("lamp", takes, date="2026-11-28")
        spotter = Spotter(model, taught=words)
    """

    def __init__(self, model: Model, path: str | os.PathLike[str] | None = None) -> None:
        self.model, self.encoder = model, Encoder(model)
        self.path = taught_path(model) if path is None else os.fspath(path)
        self.repaired = ""
        self._words = self._load()

    def __getitem__(self, name: str) -> TaughtWord:
        return self._words[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._words)

    def __len__(self) -> int:
        return len(self._words)

    def _load(self) -> dict[str, TaughtWord]:
        try:
            return self._read(self.path)
        except FileNotFoundError:
            if not os.path.exists(self.path + BACKUP):
                return {}
            why = "it is missing"
        except _UNUSABLE as error:
            why = str(getattr(error, "strerror", None) or error)
        try:
            words = self._read(self.path + BACKUP)
        except _UNUSABLE:
            raise ConfigError(
                f"{self.path}: taught words cannot be used: {why}; set the file aside, and teach the words anew"
            ) from None
        self.repaired = f"{self.path}: {why}; its copy {self.path}{BACKUP} is used"
        return words

    def _read(self, path: str) -> dict[str, TaughtWord]:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError("it is no regular file")
        values = parse_json(read_text(path))
        if not isinstance(values, dict) or values.get("format") != _FORMAT:
            raise ValueError(f"it is no file of taught words of format {_FORMAT}")
        if values["encoder_sha256"] != self.encoder.sha256:
            raise ValueError(f"made with another encoder ({shown(values['encoder'])})")
        dimensions = self.encoder.dimensions
        words = [TaughtWord.from_dict(one, dimensions) for one in values["words"]]
        return {word.name: word for word in words}

    def _save(self, words: Mapping[str, TaughtWord]) -> None:
        """Write the file, then its copy, and take over `words`.

        Raises
        ------
        WriteError
            If the file cannot be written. The words before stay.
        """
        values = {
            "format": _FORMAT,
            "encoder": os.path.basename(self.encoder.path),
            "encoder_sha256": self.encoder.sha256,
            "words": [word.to_dict() for word in words.values()],
        }
        text = json.dumps(values, indent=1) + "\n"
        write_atomically(self.path, text, durable=True)
        self._words, self.repaired = dict(words), ""
        write_atomically(self.path + BACKUP, text, durable=True)

    def check_name(self, name: str) -> str:
        """Return `name` if a word can be taught by it.

        Raises
        ------
        ConfigError
            If it is taught already, is a label of the model, or cannot name a word.
        """
        check_labels("a taught word", [name])
        if name in self:
            raise ConfigError(f"{shown(name)} is taught already; --remove it first, or take another name")
        if name.casefold() in (label.casefold() for label in self.model.labels) or not is_keyword(name):
            raise ConfigError(f"{shown(name)} is a label of the model; take another name")
        if len(self) >= _MOST_WORDS:
            raise ConfigError(f"{_MOST_WORDS} words are taught, as many as there may be; --remove one first")
        return name

    def listener(self, step_s: float, config: DetectorConfig) -> TaughtListener | None:
        """What hears the words in a stream with an inference each `step_s` seconds; None if there are no words."""
        c = self.model.frontend_config
        clip_s, refractory_s = c.clip_samples / c.sample_rate, config.refractory_ms / 1000
        if not self:
            return None
        return TaughtListener(self.encoder, self, step_s=step_s, clip_s=clip_s, refractory_s=refractory_s)

    def embeddings(self, take: Take) -> NDArray[np.float32]:
        """Embeddings of a take and of what augmentation makes of it, shape (n, dimensions), float32."""
        c = self.model.frontend_config
        clips = augmented(take, c.clip_samples, c.sample_rate, np.random.default_rng(_SEED))
        return np.stack([self.encoder.embed(clip) for clip in clips])

    def best(self, take: NDArray[np.float32], words: Iterable[TaughtWord] | None = None) -> dict[str, float]:
        """The best score of each word, as in a stream where the take moves by.

        Scores are in deviations of the scores of speech; :meth:`Encoder.threshold` tells which counts as heard.

        Parameters
        ----------
        take : numpy.ndarray
            From :meth:`embeddings`.
        words : iterable of TaughtWord, optional
            By default the taught ones.
        """
        moved, rivals = take[:SHIFTS], self.encoder.rivals
        every = self.values() if words is None else words
        return {word.name: float(scores(word, moved, rivals).max()) for word in every}

    def check_match(self, take: NDArray[np.float32], others: Sequence[NDArray[np.float32]]) -> None:
        """Refuse a take that is of another word than others.

        Parameters
        ----------
        take : numpy.ndarray
            From :meth:`embeddings`.
        others : sequence of numpy.ndarray
            The same of takes of the word; if there are none, nothing is checked.

        Raises
        ------
        TakeError
        """
        if not others:
            return
        likeness = float(_mean([take]) @ _mean(others))
        if likeness < MATCH:
            raise TakeError(
                f"does not match the other takes (likeness {likeness:.2f}, {MATCH:g} is the least); say the same word, "
                "in the same way"
            )

    def teach(self, name: str, takes: Sequence[Take], *, date: str) -> TaughtWord:
        """Learn a word, and write it to the file.

        Parameters
        ----------
        name : str
        takes : sequence of Take
            From 3 to 10, of :func:`kws_edge.teach.takes.find_word`.
        date : str
            ISO 8601.

        Raises
        ------
        TakeError
            If a take is of another word than the others.
        ConfigError
            If the name cannot be used, the number of takes is wrong, or the word is too near another one.
        WriteError
            If the file cannot be written.
        """
        return self.learn(name, [self.embeddings(take) for take in takes], date=date)

    def learn(self, name: str, takes: Sequence[NDArray[np.float32]], *, date: str) -> TaughtWord:
        """Do as :meth:`teach` does, with the :meth:`embeddings` of each take."""
        self.check_name(name)
        if not LEAST_TAKES <= len(takes) <= MOST_TAKES:
            raise ConfigError(f"{counted(len(takes), 'take')} of {shown(name)}; give {LEAST_TAKES} to {MOST_TAKES}")
        for i, take in enumerate(takes):
            try:
                self.check_match(take, [*takes[:i], *takes[i + 1 :]])
            except TakeError as error:
                raise TakeError(f"take {i + 1} {error}") from None
        prototype = _mean(takes)
        self._check_near(name, prototype)
        rivals = self.encoder.rivals
        others = rivals.compared(prototype, rivals.spoken(rivals.same(name, prototype)))
        nothing = np.empty((0, self.encoder.dimensions), np.float32)
        word = TaughtWord(name, len(takes), date, prototype, prototype, others, 0.0, nothing)
        left_out = [_mean([*takes[:i], *takes[i + 1 :]]) for i in range(len(takes))]
        weakest = min(
            self.best(take, [dataclasses.replace(word, prototype=rest)])[name]
            for take, rest in zip(takes, left_out, strict=True)
        )
        word = dataclasses.replace(word, weakest=weakest)
        self._save({**self._words, name: word})
        return word

    def _check_near(self, name: str, prototype: NDArray[np.float32]) -> None:
        known = [(f"the taught word {shown(word.name)}", word.prototype) for word in self.values()]
        known += [(f"the model's own word {shown(label)}", other) for label, other in self.encoder.own.items()]
        near, what = max(((float(prototype @ other), what) for what, other in known), default=(-1.0, ""))
        if near > NEAR:
            distance = max(0.0, 1 - near)
            raise ConfigError(
                f"{shown(name)} sounds too much like {what}: the distance is {distance:.2f}, {1 - NEAR:.2f} is the "
                "least; choose another word"
            )

    def was_wrong(self, embeddings: NDArray[np.float32], *, but: str | None = None) -> dict[str, tuple[float, float]]:
        """Learn from a recording in which words were heard that nobody said, and write that to the file.

        Parameters
        ----------
        embeddings : numpy.ndarray
            From :func:`kws_edge.teach.wrong.windows`.
        but : str, optional
            The word that was really said, if it is a taught one.

        Returns
        -------
        dict
            For each word that was heard: its best score before and now, as detections have it.

        Raises
        ------
        ConfigError
            If a word cannot learn from it. Then nothing is learnt.
        WriteError
            If the file cannot be written.
        """
        found: dict[str, tuple[float, float]] = {}
        words = dict(self._words)
        for name, word in self.items():
            before = self._share(word, embeddings)
            if name != but and before >= word.threshold:
                words[name] = learnt(word, embeddings, self.encoder)
                found[name] = before, self._share(words[name], embeddings)
        if found:
            self._save(words)
        return found

    def _share(self, word: TaughtWord, embeddings: NDArray[np.float32]) -> float:
        """The best score of `embeddings`, as detections have it."""
        return share(float(scores(word, embeddings, self.encoder.rivals).max()), self.encoder.threshold(BUDGET))

    def set_thresholds(self, values: Mapping[str, float]) -> None:
        """Change what counts as heard, and write that to the file.

        Parameters
        ----------
        values : mapping
            The threshold of each word that changes; see :class:`TaughtWord`.

        Raises
        ------
        ConfigError
            If a word is not taught, a value is out of range, or a word could not keep off what was wrong.
        WriteError
            If the file cannot be written.
        """
        nothing = np.empty((0, self.encoder.dimensions), np.float32)
        words = dict(self._words)
        for name, value in values.items():
            value = THRESHOLD.check(f"the threshold of {shown(name)}", value)
            words[name] = learnt(dataclasses.replace(self._known(name), threshold=value), nothing, self.encoder)
        self._save(words)

    def without(self, names: Collection[str]) -> TaughtWords:
        """The words but for some, to listen for. The file keeps all."""
        some = copy.copy(self)
        some._words = {name: word for name, word in self.items() if name not in names}
        return some

    def read_again(self) -> None:
        """Take over what another program has written into the file.

        Raises
        ------
        ConfigError
            If the file and its copy cannot be used. The words stay as they are.
        """
        self.repaired = ""
        self._words = self._load()

    def _known(self, name: str) -> TaughtWord:
        if name not in self:
            taught = ", ".join(self) or "none"
            raise ConfigError(f"{shown(name)} is not taught; taught are {taught}")
        return self[name]

    def remove(self, name: str) -> None:
        """Forget a word.

        Raises
        ------
        ConfigError
            If it was not taught.
        WriteError
            If the file cannot be written.
        """
        self._known(name)
        self._save({key: word for key, word in self._words.items() if key != name})


def _mean(takes: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The prototype of takes, each of which counts as much."""
    return normalised(np.mean([normalised(take.mean(axis=0)) for take in takes], axis=0))
