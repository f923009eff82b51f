"""What Wyoming's clients are heard with: a model that loads when the first client sends audio."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kws_edge import __version__
from kws_edge.errors import ConfigError
from kws_edge.model.model import Model
from kws_edge.service.wyoming.frames import Frame
from kws_edge.spotter import Spotter

if TYPE_CHECKING:
    from kws_edge.service.events import Reloaded
    from kws_edge.teach.words import TaughtWords

__all__ = ["Hearing"]


class Hearing:
    """The words, thresholds and sentences that hold for clients.

    Parameters
    ----------
    room : Reloaded
        The room whose model, keywords and thresholds are used.
    name : str
        Name of the service in Home Assistant.
    language : str
        Language of the words, such as en.
    sentences : mapping
        The sentence that stands for a keyword. A keyword without one is its own sentence.
    """

    def __init__(self, room: Reloaded, *, name: str, language: str, sentences: Mapping[str, str]) -> None:
        self._name, self._language, self._sentences = name, language, sentences
        self._model: Model | None = None
        self._taught: TaughtWords | None = None
        self._version: tuple[str, int, int] | None = None
        self.change(room)

    def change(self, room: Reloaded) -> None:
        """Hear as this room does from the next stream on."""
        self._room = room

    @property
    def keywords(self) -> tuple[str, ...]:
        return self._room.keywords

    def sentence(self, keyword: str) -> str:
        """What somebody who says `keyword` wants."""
        return self._sentences.get(keyword, keyword)

    def spotter(self, keywords: Collection[str] | None = None) -> Spotter:
        """A spotter for a new stream, for `keywords` or all. The model loads if it has changed.

        If all `keywords` are taught ones, the model's own are heard, too.

        Raises
        ------
        KwsError
            If the model cannot be used.
        """
        room = self._room
        model = self._loaded(room.model)
        own = [word for word in room.keywords if word not in room.taught]
        config = dataclasses.replace(
            model.detector_config,
            keywords=tuple(word for word in own if keywords is None or word in keywords) or tuple(own),
            thresholds={word: value for word, value in room.thresholds.items() if word not in room.taught},
            wake_word=None,  # who streams has heard a wake word, or waits for one
        )
        taught = self._taught_words(model, room, room.keywords if keywords is None else keywords)
        return Spotter(model, detector_config=config, taught=taught)

    def _taught_words(self, model: Model, room: Reloaded, keywords: Collection[str]) -> TaughtWords | None:
        """Those of the room's taught words that are among `keywords`."""
        wanted = {word for word in room.taught if word in keywords}
        if not wanted or room.taught_file is None:
            return None
        if self._taught is None or self._taught.model is not model or self._taught.path != room.taught_file:
            from kws_edge.teach.words import TaughtWords

            self._taught = TaughtWords(model, room.taught_file)
        else:
            with suppress(ConfigError):  # rooms go on with the former words, too
                self._taught.read_again()
        return self._taught.without([word for word in self._taught if word not in wanted])

    def _loaded(self, path: str) -> Model:
        try:
            status = os.stat(path)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
        version = (path, status.st_mtime_ns, status.st_size)
        if self._model is None or version != self._version:
            self._model, self._version = Model(path), version
        return self._model

    def info(self) -> Frame:
        """What clients are told of the service.

        It has no satellite: Home Assistant would load nothing else of it.
        """
        languages = [self._language]
        model = os.path.splitext(os.path.basename(self._room.model))[0]
        asr = {
            **_artifact(self._name, "Spoken commands as sentences"),
            "models": [{**_artifact(model, f"{len(self.keywords)} commands"), "languages": languages}],
            "requires_external_vad": False,
            "prefers_auto_gain_enabled": False,
            "prefers_noise_reduction_enabled": False,
        }
        words = [{**_artifact(word, word), "phrase": word, "languages": languages} for word in self.keywords]
        wake = {**_artifact(self._name, "Keywords as wake words"), "models": words}
        return Frame("info", {"asr": [asr], "wake": [wake]})


def _artifact(name: str, description: str) -> dict[str, Any]:
    """What the protocol wants to know of a program and of a model."""
    return {
        "name": name,
        "description": description,
        "attribution": {"name": "kws-edge", "url": ""},
        "installed": True,
        "version": __version__,
    }
