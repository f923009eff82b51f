"""The words that were taught to the service's model, and what changes them while it runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from kws_edge.audio.file import AudioFile
from kws_edge.errors import ConfigError
from kws_edge.teach.takes import TakeError, find_word
from kws_edge.teach.words import MOST_TAKES, TaughtWords
from kws_edge.teach.wrong import windows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kws_edge.model.model import Model

__all__ = ["Taught"]

_LONGEST_S = 10.0


class Taught:
    """Taught words that rooms hear. Any thread may use it.

    A change is written to the file, and then rooms hear it.

    Parameters
    ----------
    model : kws_edge.Model
    path : str or None
        File of the words; None: the one that ``kws-edge teach`` writes.
    turn : threading.Lock
        Held during an inference.

    Attributes
    ----------
    words : kws_edge.TaughtWords
    changed : callable
        Called after a change.
    allow : callable
        Called with the words that shall be there, if some may be gone. It raises ConfigError if that cannot be.

    Raises
    ------
    ModelError
        If the model has no encoder.
    ConfigError
        If the file and its copy cannot be used.
    """

    def __init__(self, model: Model, path: str | None, turn: threading.Lock) -> None:
        self.words = TaughtWords(model, path)
        self._version = self._on_disk()
        self.changed: Callable[[], None] = lambda: None
        self.allow: Callable[[Sequence[str]], None] = lambda words: None
        self._turn, self._lock = turn, threading.Lock()

    def listed(self) -> list[dict[str, Any]]:
        """What people want to know of each word: ``name``, ``takes``, ``date``, ``wrong`` and ``threshold``."""
        return [
            {"name": w.name, "takes": w.takes, "date": w.date, "wrong": len(w.wrong), "threshold": w.threshold}
            for w in self.words.values()
        ]

    def teach(self, name: str, paths: Iterable[str], *, date: str) -> None:
        """Learn a word from recordings, as ``kws-edge teach`` does.

        Raises
        ------
        AudioError, ConfigError, WriteError
            As :meth:`kws_edge.TaughtWords.teach`. A :class:`kws_edge.TakeError` names the recording by its number.
        """
        with self._lock:
            self.words.read_again()
            self.words.check_name(name)
            takes = [self._take(path, i) for i, path in enumerate(islice(paths, MOST_TAKES + 1), 1)]
            self.words.learn(name, takes, date=date)
        self._tell()

    def remove(self, name: str) -> None:
        """Forget a word. Errors are those of :meth:`kws_edge.TaughtWords.remove`, and of `allow`."""
        with self._lock:
            self.words.read_again()
            self.allow([word for word in self.words if word != name])
            self.words.remove(name)
        self._tell()

    def set_thresholds(self, values: Mapping[str, float]) -> None:
        """Change what counts as heard, in every room. Errors are those of :class:`kws_edge.TaughtWords`."""
        with self._lock:
            self.words.read_again()
            self.words.set_thresholds(values)
        self._tell()

    def was_wrong(self, path: str, *, said: str | None = None) -> dict[str, tuple[float, float]]:
        """Learn from a recording in which words were heard that nobody said; see :meth:`TaughtWords.was_wrong`.

        Parameters
        ----------
        path : str
        said : str, optional
            The word that was really said.
        """
        samples = self._read(path)
        with self._turn:
            embeddings = windows(self.words.encoder, samples)
        with self._lock:
            self.words.read_again()
            found = self.words.was_wrong(embeddings, but=said)
        if found:
            self._tell()
        return found

    def look(self, notice: Callable[[str], None]) -> None:
        """If another program has changed the file, let rooms hear its words. If they cannot be used, nothing changes.

        Parameters
        ----------
        notice : callable
            Called with a text for people.
        """
        with self._lock:
            if (version := self._on_disk()) == self._version:
                return
            self._version, words = version, self.words.without(())
            try:
                words.read_again()
                self.allow(list(words))
            except ConfigError as error:
                notice(f"taught words: all goes on as it was: {error}")
                return
            self.words = words
        self.changed()
        if words.repaired:
            notice(f"warning: {words.repaired}")
        notice(f"taught words: {', '.join(words) or 'none'}")

    def _take(self, path: str, number: int) -> NDArray[Any]:
        c = self.words.model.frontend_config
        try:
            take = find_word(self._read(path), c.sample_rate, c.clip_samples / c.sample_rate)
        except TakeError as error:
            raise TakeError(f"recording {number}: {error}") from None
        with self._turn:
            return self.words.embeddings(take)

    def _read(self, path: str) -> NDArray[Any]:
        rate = self.words.model.frontend_config.sample_rate
        with AudioFile(path, sample_rate=rate) as audio:
            return audio.read_all()[: round(_LONGEST_S * rate)]

    def _tell(self) -> None:
        self._version = self._on_disk()
        self.changed()

    def _on_disk(self) -> tuple[int, ...]:
        """What tells one state of the file from another."""
        try:
            status = os.stat(self.words.path)
        except OSError:
            return ()
        return status.st_mtime_ns, status.st_size, status.st_ino
